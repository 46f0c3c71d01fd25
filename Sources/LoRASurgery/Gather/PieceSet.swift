import Checkpoints
import Tensors

/// The pieces of all parts of one operation, found complete and in agreement.
struct PieceSet {
  /// The pieces in the order of their parts.
  let pieces: [Piece]
  /// What all pieces say alike; entries and warnings are those of the first part.
  var manifest: PieceManifest { pieces[0].manifest }
  /// Every file that is read.
  var inputs: [InputFile] { pieces.flatMap(\.files) }

  /// Opens and compares pieces.
  ///
  /// - Throws: `part.disagrees`, `part.repeated`, `part.missing`, `part.damaged`, and what opening a piece throws.
  init(opening paths: [String]) throws(SurgeryError) {
    var pieces: [Piece] = []
    for path in try Self.expanded(paths) {
      let piece = try Piece(opening: path)
      if let first = pieces.first,
        let differing = first.manifest.disagreement(with: piece.manifest)
      {
        throw SurgeryError(
          .data, "part.disagrees",
          "the part does not belong with \(first.path): its \(differing.what) differs",
          file: path, expected: differing.expected, found: differing.found,
          hint: "make all parts with the same version, inputs and options")
      }
      if let other = pieces.first(where: { $0.manifest.part == piece.manifest.part }) {
        throw SurgeryError(
          .data, "part.repeated", "part \(piece.manifest.part) is given twice", file: path,
          found: "\(other.path) and \(path)", hint: "leave one of them out")
      }
      pieces.append(piece)
    }
    pieces.sort { $0.manifest.part.number < $1.manifest.part.number }
    guard let first = pieces.first else {
      throw SurgeryError(.usage, "part.missing", "no part is given")
    }
    try Self.checkComplete(pieces, first.manifest)
    self.pieces = pieces
  }

  private static func checkComplete(
    _ pieces: [Piece], _ manifest: PieceManifest
  ) throws(SurgeryError) {
    let count = manifest.part.count
    let present = Set(pieces.map(\.manifest.part.number))
    let missing = (1...count).filter { !present.contains($0) }
    guard missing.isEmpty else {
      throw SurgeryError(
        .missingInput, "part.missing",
        "\(missing.count == 1 ? "a part is" : "\(missing.count, counting: "part") are") missing: "
          + missing.map { "\($0)/\(count)" }.listed(limit: 8),
        expected: "\(count, counting: "part")", found: "\(present.count)",
        hint: "run the command of the missing parts again")
    }
    var holders = [Int: Piece]()
    for piece in pieces {
      for entry in piece.manifest.entries {
        guard let other = holders.updateValue(piece, forKey: entry.position) else { continue }
        throw Piece.damaged(
          piece.path, "it holds what another part holds too", found: other.path
        ).inTensor(entry.report.tensor)
      }
    }
    guard holders.count == manifest.positions else {
      throw SurgeryError(
        .data, "part.damaged", "the parts together do not hold every tensor",
        file: pieces[0].path, expected: "\(manifest.positions, counting: "tensor")",
        found: "\(holders.count)")
    }
  }

  /// A folder that is no piece itself stands for the pieces in it.
  private static func expanded(_ paths: [String]) throws(SurgeryError) -> [String] {
    var found: [String] = []
    for path in paths {
      guard Places.isFolder(path), !Places.exists("\(path)/\(Piece.fileName)") else {
        found.append(path)
        continue
      }
      let inside = try Places.names(in: path).filter { $0.hasPrefix(PieceDestination.prefix) }
      guard !inside.isEmpty else {
        throw SurgeryError(
          .data, "part.unknown", "the folder holds no parts", file: path,
          expected: "\(PieceDestination.prefix)K-of-N or \(Piece.fileName)")
      }
      found += inside.map { path.hasSuffix("/") ? path + $0 : "\(path)/\($0)" }
    }
    return found
  }

  /// Every entry with its piece and its report, in the order of the operation.
  ///
  /// - Throws: What reading a piece's sums throws.
  func entries() throws(SurgeryError) -> [(
    piece: Piece, entry: PieceManifest.Entry, report: TensorReport
  )] {
    var all: [(piece: Piece, entry: PieceManifest.Entry, report: TensorReport)] = []
    for piece in pieces {
      for (entry, report) in zip(piece.manifest.entries, try piece.reports()) {
        all.append((piece, entry, report))
      }
    }
    return all.sorted { $0.entry.position < $1.entry.position }
  }

  /// The request that the parts carried out, without its paths.
  ///
  /// - Throws: `part.damaged` where the manifest holds none.
  func request<Request: Decodable>(_ type: Request.Type) throws(SurgeryError) -> Request {
    guard let request = ManifestJSON.value(type, from: manifest.options) else {
      throw Piece.damaged(pieces[0].path, "its options cannot be read")
    }
    return request
  }
}
