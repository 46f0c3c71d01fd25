import Checkpoints
import Tensors

/// What a part of a divided operation wrote, opened and checked: a file of tensors with a manifest in its metadata.
///
/// Where the part's share is complete files of a sharded result, the piece is a folder with those beside its own file.
struct Piece: Sendable {
  /// The piece's own file in a folder.
  static let fileName = "part.safetensors"
  static let manifestKey = "lora_surgery.part"
  static let checksumKey = "lora_surgery.part.crc32"
  /// The tensor with the sums of a rewriting: a row of `sumCount` numbers for each entry.
  static let sums: TensorName = "sums"
  static let sumCount = 5

  let path: String
  let manifest: PieceManifest
  let shards: [String: TensorFile]
  private let own: TensorFile
  private let tensors: [TensorName: StoredTensor]

  /// The name of a tensor in a piece.
  static func name(_ position: Int, _ role: String) -> TensorName {
    TensorName("\(position).\(role)")
  }

  /// Opens a piece; no data is read.
  ///
  /// - Throws: `part.unknown` for what is no piece, `part.damaged` for one that does not say what it holds, `part.disagrees`
  ///   for one of another version, and what opening throws.
  init(opening path: String) throws(SurgeryError) {
    self.path = path
    let isFolder = Places.isFolder(path)
    own = try .safetensors(InputFile(isFolder ? "\(path)/\(Self.fileName)" : path))
    guard let text = own.metadata[Self.manifestKey] else {
      throw SurgeryError(
        .data, "part.unknown", "this is no part of a divided operation", file: path,
        hint: "gather takes what --part wrote")
    }
    guard own.metadata[Self.checksumKey] == String(Array(text.utf8).crc32),
      let version = ManifestJSON.value(VersionOnly.self, from: text)?.version
    else { throw Self.damaged(path, "its manifest is not what was written") }
    guard version == Version.current else {
      throw SurgeryError(
        .data, "part.disagrees", "the part was made by another version", file: path,
        expected: Version.current, found: version, hint: "make all parts with one version")
    }
    guard let manifest = ManifestJSON.value(PieceManifest.self, from: text) else {
      throw Self.damaged(path, "its manifest cannot be read")
    }
    self.manifest = manifest
    tensors = Dictionary(own.tensors.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
    var shards: [String: TensorFile] = [:]
    for shard in Set(manifest.entries.compactMap(\.rewritten?.shard?.path)).sorted() {
      let components = shard.split(separator: "/", omittingEmptySubsequences: false)
      guard isFolder, !components.contains(where: { ["", ".", ".."].contains($0) }) else {
        throw Self.damaged(path, "it names an impossible file", found: shard)
      }
      shards[shard] = try .safetensors(InputFile("\(path)/\(shard)"))
    }
    self.shards = shards
    for entry in manifest.entries { try check(entry) }
  }

  private struct VersionOnly: Decodable {
    var version: String
  }

  /// Every file of the piece.
  var files: [InputFile] { [own.file] + shards.sorted { $0.key < $1.key }.map(\.value.file) }

  /// A tensor of the piece's own file.
  ///
  /// - Throws: `part.damaged` where it is not there.
  func tensor(
    _ position: Int, _ role: String, as name: TensorName = .factor
  ) throws(SurgeryError) -> StoredTensor {
    try tensor(Self.name(position, role)).renamed(name)
  }

  private func tensor(_ name: TensorName) throws(SurgeryError) -> StoredTensor {
    guard let tensor = tensors[name] else {
      throw Self.damaged(path, "it lacks a tensor of its manifest", found: name.text)
    }
    return tensor
  }

  /// The result of rewriting a tensor, under its name in the result.
  func rewritten(
    _ entry: PieceManifest.Entry, _ place: PieceManifest.Rewritten
  ) throws(SurgeryError) -> StoredTensor {
    guard let shard = place.shard else {
      return try tensor(entry.position, "tensor", as: place.name)
    }
    guard let stored = shards[shard.path]?.tensors.first(where: { $0.name == shard.name }) else {
      throw Self.damaged(path, "\(shard.path) lacks a tensor", found: shard.name.text)
    }
    return stored.renamed(place.name)
  }

  /// The reports of all entries, with the sums that a rewriting found.
  ///
  /// - Throws: `part.damaged`, and what reading throws.
  func reports() throws(SurgeryError) -> [TensorReport] {
    var reports = manifest.entries.map(\.report)
    guard manifest.rewriting != nil, !reports.isEmpty else { return reports }
    let stored = try tensor(Self.sums)
    guard stored.info.dtype == .f64,
      stored.info.shape == Shape(rows: reports.count, columns: Self.sumCount)
    else { throw Self.damaged(path, "its sums have an impossible shape") }
    let numbers = [Double](widening: try stored.bytes(), from: .f64)
    for (index, entry) in manifest.entries.enumerated() {
      let row = numbers[index * Self.sumCount..<(index + 1) * Self.sumCount]
      guard let sums = AdditionSums(stored: Array(row)) else {
        throw Self.damaged(path, "its sums are no numbers")
      }
      if entry.rewritten?.isChanged == true {
        reports[index].setSums(sums)
      } else if sums.loss.overflowed > 0 {
        reports[index].overflowed = sums.loss.overflowed
      }
    }
    return reports
  }

  private func check(_ entry: PieceManifest.Entry) throws(SurgeryError) {
    let isPlaced =
      switch entry.rewritten?.file {
      case let file?: manifest.rewriting?.files.indices.contains(file) ?? false
      case nil: true
      }
    guard (0..<manifest.positions).contains(entry.position), isPlaced,
      entry.rewritten == nil || manifest.rewriting != nil
    else { throw Self.damaged(path, "its manifest has an impossible entry") }
    guard let extracted = entry.extracted else { return }
    let shape = entry.report.shape
    let fits: Bool
    switch extracted.content {
    case .factors:
      let left = try tensor(entry.position, "left").info.shape
      let right = try tensor(entry.position, "right").info.shape
      let stack =
        extracted.form == .experts
        ? ExpertStack(shape, isTransposed: extracted.isTransposed) : nil
      let count = stack?.count ?? 1
      let (rows, overflow) = left.columns.multipliedReportingOverflow(by: count)
      fits =
        left.rank == 2 && right.rank == 2 && shape.rank >= 2 && !overflow && right.rows == rows
        && left.rows == (stack.map { $0.count * $0.rows } ?? shape.rows)
        && right.columns == stack?.columns ?? shape.columns
        && (extracted.form == .experts) == (stack != nil)
    case .full, .difference:
      fits = try tensor(entry.position, extracted.content.rawValue).info.shape == shape
    }
    guard fits else {
      throw Self.damaged(path, "a tensor has another shape than its manifest says")
        .inTensor(entry.report.tensor)
    }
  }

  static func damaged(_ path: String, _ what: String, found: String? = nil) -> SurgeryError {
    SurgeryError(
      .data, "part.damaged", "the part is damaged: \(what)", file: path, found: found,
      hint: "make the part again with --force")
  }
}

extension AdditionSums {
  /// The numbers that a piece keeps.
  var stored: [Double] {
    [squaredWeight, squaredDelta, kept, Double(changed), Double(loss.overflowed)]
  }

  /// Sums from the numbers that a piece keeps; `nil` where they cannot be such.
  init?(stored numbers: [Double]) {
    guard numbers.count == 5, let changed = Int(exactly: numbers[3]),
      let overflowed = Int(exactly: numbers[4])
    else { return nil }
    self.init()
    (squaredWeight, squaredDelta, kept) = (numbers[0], numbers[1], numbers[2])
    (self.changed, loss.overflowed) = (changed, overflowed)
  }
}
