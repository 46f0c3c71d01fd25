public import Tensors

/// How an output should lie on disk, where that does not follow from its path and its source.
public struct OutputForm: Sendable, Codable, Hashable {
  /// The container format; by default that of the path's extension, or of the source.
  public var format: FileFormat?
  /// The most bytes of tensors in one shard; by default the source's shards are kept.
  public var maximumShardSize: Int?
  /// How hard npz compresses, 1 (fastest) to 9 (smallest); `nil` stores the tensors as they are.
  public var compression: Int?

  /// Describes the form of an output.
  public init(
    format: FileFormat? = nil, maximumShardSize: Int? = nil, compression: Int? = nil
  ) {
    self.format = format
    self.maximumShardSize = maximumShardSize
    self.compression = compression
  }

  /// The container format of an output at a path.
  ///
  /// - Parameters:
  ///   - path: Where the output goes.
  ///   - source: The checkpoint whose tensors are written; a folder takes its format, or safetensors for formats that are
  ///     only read.
  /// - Returns: The format.
  /// - Throws: `output.format` where path and form contradict each other or the format is only read, `output.compression`
  ///   where the format does not compress.
  public func format(
    of path: String, from source: Checkpoint
  ) throws(SurgeryError) -> FileFormat {
    let named = FileFormat(extensionOf: path)
    if let asked = format, let named, asked != named {
      throw SurgeryError(
        .usage, "output.format", "the output's extension and the asked format differ", file: path,
        expected: asked.rawValue, found: named.rawValue)
    }
    let sources = source.files.first?.file.format
    let chosen = format ?? named ?? (sources == .torch ? nil : sources) ?? .safetensors
    try chosen.requireWritten(at: path)
    if compression != nil, chosen != .npz {
      throw SurgeryError(
        .usage, "output.compression", "only npz compresses", file: path,
        expected: FileFormat.npz.rawValue, found: chosen.rawValue,
        hint: "name an output that ends in .npz, or leave --compress out")
    }
    return chosen
  }
}

extension CheckpointPlan {
  /// What of a model's folder does not come along to the output's, in words.
  public func notesOnSurroundings(of source: Checkpoint) -> [String] {
    if kind != .folder || source.leftBehind.isEmpty { return [] }
    return [
      "not copied, for they are neither the model's tensors nor its settings: "
        + source.leftBehind.listed(limit: 8)
    ]
  }

  /// Plans the output that holds a checkpoint's tensors, changed or not.
  ///
  /// A path with a known extension is one file. Any other path is a folder: of the source's layout (shards, components,
  /// companions) where the source is a folder, else with one file of tensors.
  ///
  /// - Parameters:
  ///   - source: The checkpoint whose tensors are written.
  ///   - tensors: For each tensor of `source`, what is written for it; `nil` leaves it out.
  ///   - path: Where the output goes.
  ///   - form: What the path does not say.
  ///   - additions: Tensors that `source` does not have; they go into the last file.
  ///   - metadata: Changes a file's metadata.
  /// - Returns: The plan, and for each tensor of `source`, then for each addition, its place in it.
  /// - Throws: `output.format` or `output.compression` where path and form contradict each other, `npy.name`.
  public static func rewriting(
    _ source: Checkpoint, as tensors: [TensorInfo?], to path: String,
    form: OutputForm = OutputForm(), additions: [TensorInfo] = [],
    metadata: @escaping ([String: String]) -> [String: String] = { $0 }
  ) throws(SurgeryError) -> (plan: CheckpointPlan, places: [PlannedTensor?]) {
    precondition(tensors.count == source.tensors.count, "one planned tensor for each stored one")
    let format = try form.format(of: path, from: source)
    let kind: OutputTransaction.Kind = FileFormat(extensionOf: path) == nil ? .folder : .file
    var layout = LayoutBuilder(
      source: source, tensors: tensors + additions, format: format, compression: form.compression,
      metadata: metadata)
    if kind == .folder, format == .npy {
      try layout.spread()
    } else if kind == .folder, source.isFolder, form.maximumShardSize == nil, !layout.changesFormat
    {
      layout.keepFiles()
    } else if kind == .folder, let limit = form.maximumShardSize {
      layout.split(limit: limit)
    } else {
      layout.joinFiles(
        as: kind == .file ? Checkpoint.fileName(of: path) : "model.\(format.fileExtension)")
    }
    var extras: [Extra] = []
    if kind == .folder {
      extras = source.companions.filter { !$0.relativePath.hasSuffix(".index.json") }.map {
        Extra(relativePath: $0.relativePath, content: .copy(of: $0.path))
      }
      let noted = metadata(source.metadata)
      if format == .npy, !noted.isEmpty {
        extras.append(
          Extra(
            relativePath: NpzRecords.metadataMember,
            content: .bytes(NpzRecords.text(of: noted))))
      }
      extras += layout.indices.map { Extra(relativePath: $0.path, content: .bytes($0.bytes)) }
    }
    return (
      CheckpointPlan(path: path, kind: kind, files: layout.files, extras: extras), layout.places
    )
  }
}

extension FileFormat {
  /// The extension of file names, without its dot.
  public var fileExtension: String {
    switch self {
    case .safetensors, .npy, .npz, .gguf: rawValue
    case .torch: "pt"
    case .compact: "lra"
    }
  }
}

/// Distributes the tensors of a source over the files of an output.
private struct LayoutBuilder {
  let source: Checkpoint
  let tensors: [TensorInfo?]
  let format: FileFormat
  let compression: Int?
  let metadata: ([String: String]) -> [String: String]
  var files: [TensorFilePlan] = []
  var places: [PlannedTensor?]
  var indices: [(path: String, bytes: [UInt8])] = []

  init(
    source: Checkpoint, tensors: [TensorInfo?], format: FileFormat, compression: Int?,
    metadata: @escaping ([String: String]) -> [String: String]
  ) {
    self.source = source
    self.tensors = tensors
    self.format = format
    self.compression = compression
    self.metadata = metadata
    places = Array(repeating: nil, count: tensors.count)
  }

  var changesFormat: Bool { source.files.contains { $0.file.format != format } }

  /// One file for each file of the source, under the same names; files that lose all their tensors go.
  mutating func keepFiles() {
    var position = 0
    for (relativePath, file) in source.files {
      // A component's tensors carry its name in front only while the pipeline is one namespace.
      let component = componentPrefix(of: relativePath)
      let range = position..<position + file.tensors.count
      if !range.isEmpty, range.allSatisfy({ tensors[$0] == nil }),
        relativePath != source.files.last?.relativePath || !files.isEmpty
      {
        position = range.upperBound
        continue
      }
      addFile(relativePath, metadata: file.metadata)
      for _ in file.tensors {
        add(position, strippingPrefix: component)
        position += 1
      }
    }
    while position < tensors.count {
      add(position)
      position += 1
    }
    if case .sharded(let index) = source.layout {
      addIndex(index, files: files.indices, folder: "")
    }
    for companion in source.companions where companion.relativePath.hasSuffix(".index.json") {
      let folder =
        companion.relativePath.split(separator: "/").dropLast().joined(separator: "/") + "/"
      addIndex(
        companion.relativePath,
        files: files.indices.filter { files[$0].relativePath.hasPrefix(folder) }, folder: folder)
    }
  }

  private func componentPrefix(of relativePath: String) -> String {
    guard source.layout == .pipeline, let slash = relativePath.firstIndex(of: "/") else {
      return ""
    }
    return String(relativePath[...slash])
  }

  /// One file with everything.
  mutating func joinFiles(as name: String) {
    addFile(name, metadata: source.metadata)
    for position in tensors.indices { add(position) }
  }

  /// One npy file for each tensor.
  mutating func spread() throws(SurgeryError) {
    files = try TensorFilePlan.npyFolder(tensors.compactMap { $0 })
    for (file, position) in tensors.indices.filter({ tensors[$0] != nil }).enumerated() {
      places[position] = PlannedTensor(file: file, tensor: 0)
    }
  }

  /// Shards of at most `limit` bytes each, named and indexed as Hugging Face does; a larger tensor has one to itself.
  mutating func split(limit: Int) {
    var shards: [[Int]] = [[]]
    var size = 0
    for position in tensors.indices {
      guard let info = tensors[position] else { continue }
      if size > 0 && size + info.byteCount > limit {
        shards.append([])
        size = 0
      }
      shards[shards.count - 1].append(position)
      size += info.byteCount
    }
    guard shards.count > 1 else {
      joinFiles(as: "model.\(format.fileExtension)")
      return
    }
    for (number, positions) in shards.enumerated() {
      addFile(
        "model-\(Self.padded(number + 1))-of-\(Self.padded(shards.count)).\(format.fileExtension)",
        metadata: source.metadata)
      for position in positions { add(position) }
    }
    addIndex("model.\(format.fileExtension).index.json", files: files.indices, folder: "")
  }

  private static func padded(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }

  private mutating func addFile(_ relativePath: String, metadata old: [String: String]) {
    var plan = TensorFilePlan(
      relativePath: relativePath, format: format, tensors: [], metadata: metadata(old),
      compression: compression)
    plan.ggufMetadata = source.files.first?.file.ggufMetadata ?? GGUFMetadata()
    files.append(plan)
  }

  /// Puts a tensor into the last file.
  private mutating func add(_ position: Int, strippingPrefix prefix: String = "") {
    guard var info = tensors[position] else { return }
    if !prefix.isEmpty, info.name.text.hasPrefix(prefix) {
      info.name = TensorName(String(info.name.text.dropFirst(prefix.count)))
    }
    places[position] = PlannedTensor(
      file: files.count - 1, tensor: files[files.count - 1].tensors.count)
    files[files.count - 1].tensors.append(info)
  }

  private mutating func addIndex(_ path: String, files chosen: some Sequence<Int>, folder: String) {
    var total = 0
    var map: [JSONValue.Member] = []
    for file in chosen {
      let name = String(files[file].relativePath.dropFirst(folder.count))
      for info in files[file].tensors {
        total += info.byteCount
        map.append(.init(info.name.text, .string(name)))
      }
    }
    map.sort { TensorName($0.key) < TensorName($1.key) }
    let index = JSONValue.object([
      .init("metadata", .object([.init("total_size", .integer(total))])),
      .init("weight_map", .object(map)),
    ])
    indices.append((path, Array((index.text(indent: 2) + "\n").utf8)))
  }
}
