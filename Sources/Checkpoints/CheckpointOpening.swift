import SystemPackage
public import Tensors

extension Checkpoint {
  /// The names in a folder, in no order; none where it cannot be read.
  public static func names(inFolder path: String) -> [String] {
    (try? FileSystem.contents(of: FilePath(path))) ?? []
  }
}

extension Checkpoint {
  /// Opens a file, a model folder (single file or sharded), a folder of npy files, or a diffusers pipeline folder.
  ///
  /// - Parameters:
  ///   - path: As the user named it.
  ///   - limits: What reading may cost.
  /// - Throws: `file.…` where something is missing, `index.…` where an index is wrong, and what the formats' readers throw.
  /// - Complexity: Proportional to the headers; no tensor's data is read.
  public init(
    opening path: String, limits: ReadLimits = ReadLimits()
  ) throws(SurgeryError) {
    let status: FileSystem.Status
    do { status = try FileSystem.status(of: FilePath(path)) } catch {
      throw SurgeryError.reading(path, "stat", error)
    }
    guard status.isFolder else {
      let file = try TensorFile(opening: path, limits: limits)
      try self.init(
        path: path, layout: .file, files: [(Self.fileName(of: path), file)], companions: [],
        config: nil)
      return
    }
    let folder = try ModelFolder(path, limits: limits)
    if folder.names.contains("model_index.json") {
      try self.init(pipeline: folder)
    } else if !folder.hasWeights, let inner = try folder.onlyModelInside() {
      try self.init(model: inner)
    } else if !folder.hasWeights, let arrays = try folder.arrays() {
      try self.init(arrays, in: folder)
    } else {
      try self.init(model: folder)
    }
  }

  /// The tensors of npy files are named by their paths in the folder, without `.npy`.
  private init(_ paths: [String], in folder: ModelFolder) throws(SurgeryError) {
    var files: [(relativePath: String, file: TensorFile)] = []
    for path in paths {
      var file = try TensorFile(opening: folder.path(of: path), limits: folder.limits)
      let name = TensorName(String(path.dropLast(".npy".count)))
      file.tensors = file.tensors.map { $0.renamed(name) }
      files.append((path, file))
    }
    if folder.names.contains(NpzRecords.metadataMember) {
      let path = folder.path(of: NpzRecords.metadataMember)
      files[0].file.metadata = try NpzRecords.metadata(
        in: try JSONValue(readingFile: path), of: path)
    }
    try self.init(
      path: folder.path, layout: .arrays, files: files,
      companions: try folder.companions(besides: [NpzRecords.metadataMember]),
      config: try folder.json("config.json"))
  }

  private init(model folder: ModelFolder) throws(SurgeryError) {
    let config = try folder.json("config.json")
    if let index = try folder.indexName() {
      let shards = try ShardIndex(folder: folder, name: index)
      try self.init(
        path: folder.path, layout: .sharded(index: index), files: shards.files,
        companions: try folder.companions(
          besides: Set(shards.files.map(\.relativePath)).union([index])),
        config: config, warnings: shards.warnings)
    } else {
      let name = try folder.weightsName()
      let file = try TensorFile(opening: folder.path(of: name), limits: folder.limits)
      try self.init(
        path: folder.path, layout: .folder(file: name), files: [(name, file)],
        companions: try folder.companions(besides: [name]), config: config)
    }
  }

  /// The tensors of a pipeline's components are named `COMPONENT/NAME`.
  private init(pipeline folder: ModelFolder) throws(SurgeryError) {
    var files: [(relativePath: String, file: TensorFile)] = []
    var companions = try folder.companions(besides: [])
    var warnings: [String] = []
    for component in folder.folders {
      let inner = try ModelFolder(folder.path(of: component), limits: folder.limits)
      guard inner.hasWeights else {
        companions += try inner.companions(besides: []).map { $0.inside(component) }
        continue
      }
      let model = try Checkpoint(model: inner)
      warnings += model.warnings
      for (relativePath, file) in model.files {
        var renamed = file
        renamed.tensors = file.tensors.map {
          $0.renamed(TensorName("\(component)/\($0.name.text)"))
        }
        renamed.warnings = []
        files.append(("\(component)/\(relativePath)", renamed))
      }
      companions += model.companions.map { $0.inside(component) }
      if case .sharded(let index) = model.layout {
        companions.append(
          Companion(
            relativePath: "\(component)/\(index)", path: inner.path(of: index)))
      }
    }
    try self.init(
      path: folder.path, layout: .pipeline, files: files, companions: companions, config: nil,
      warnings: warnings)
  }

  static func fileName(of path: String) -> String {
    FilePath(path).lastComponent?.string ?? path
  }
}

extension Checkpoint.Companion {
  func inside(_ folder: String) -> Self {
    Self(relativePath: "\(folder)/\(relativePath)", path: path)
  }
}

/// A folder that holds a model, listed once.
struct ModelFolder {
  let path: String
  /// Regular files (links followed), sorted.
  let names: [String]
  /// Folders, sorted.
  let folders: [String]
  /// What reading its files may cost.
  let limits: ReadLimits

  init(_ path: String, limits: ReadLimits = ReadLimits()) throws(SurgeryError) {
    self.path = path
    self.limits = limits
    var names: [String] = []
    var folders: [String] = []
    do {
      for name in try FileSystem.contents(of: FilePath(path)) where !name.hasPrefix(".") {
        guard let status = try? FileSystem.status(of: FilePath(path).appending(name)) else {
          names.append(name)
          continue
        }
        if status.isFolder { folders.append(name) } else { names.append(name) }
      }
    } catch {
      throw SurgeryError.reading(path, "opendir", error)
    }
    self.names = names
    self.folders = folders
  }

  func path(of name: String) -> String { FilePath(path).appending(name).string }

  /// The index of a sharded model: safetensors before PyTorch.
  func indexName() throws(SurgeryError) -> String? {
    let indices = names.filter { $0.hasSuffix(".safetensors.index.json") }
    if indices.count > 1 {
      throw SurgeryError(
        .data, "folder.ambiguous", "the folder has several index files", file: path,
        found: indices.joined(separator: ", "), hint: "name the file to use")
    }
    if let index = indices.first { return index }
    if names.contains(where: { $0.hasSuffix(".safetensors") }) { return nil }
    return names.first { $0.hasSuffix(".bin.index.json") }
  }

  /// The endings of files of tensors, in the order in which they are preferred; litgpt's adapters lie beside its models.
  private static let endings = [
    ".safetensors", ".npz", ".bin", ".pt", ".pth", ".gguf", ".lra", ".pth.lora",
  ]

  /// The one file of tensors in a folder without an index.
  func weightsName() throws(SurgeryError) -> String {
    for suffix in Self.endings {
      let found = names.filter { $0.hasSuffix(suffix) }
      for preferred in ["model", "diffusion_pytorch_model", "pytorch_model", "adapter_model"]
      where found.count > 1 && found.contains(preferred + suffix) {
        return preferred + suffix
      }
      if found.count > 1 {
        throw SurgeryError(
          .data, "folder.ambiguous", "the folder has several files of tensors and no index",
          file: path, found: found.prefix(4).joined(separator: ", "), hint: "name the file to use")
      }
      if let name = found.first { return name }
    }
    throw SurgeryError(
      .missingInput, "folder.no-weights", "the folder holds no file of tensors", file: path,
      expected: "*.safetensors, an index with its shards, or another known format")
  }

  /// The one folder with weights inside this one or its `snapshots`, as the cache of the Hugging Face hub has them.
  func onlyModelInside() throws(SurgeryError) -> ModelFolder? {
    var places = folders.map { path(of: $0) }
    if folders.contains("snapshots") {
      let snapshots = try ModelFolder(path(of: "snapshots"), limits: limits)
      places += snapshots.folders.map { snapshots.path(of: $0) }
    }
    var found: [ModelFolder] = []
    for place in places {
      let inner = try ModelFolder(place, limits: limits)
      if inner.hasWeights { found.append(inner) }
    }
    if found.count > 1 {
      throw SurgeryError(
        .data, "folder.ambiguous", "the folder has no weights, but several of its folders have",
        file: path, found: found.prefix(4).map(\.path).joined(separator: ", "),
        hint: "name the folder to use")
    }
    return found.first
  }

  /// Whether the folder itself holds a file of several tensors.
  var hasWeights: Bool {
    names.contains { name in
      let format = FileFormat(extensionOf: name)
      return format != nil && format != .npy || name.hasSuffix(".index.json")
        || name.hasSuffix(".pth.lora")
    }
  }

  /// The npy files in the folder and the folders in it, sorted by their bytes; `nil` where there are none.
  func arrays() throws(SurgeryError) -> [String]? {
    var found: [String] = []
    var places = [(prefix: "", folder: self, depth: 0)]
    while let (prefix, folder, depth) = places.popLast() {
      found += folder.names.filter { FileFormat(extensionOf: $0) == .npy }.map { prefix + $0 }
      guard depth < Self.maximumArrayDepth else { continue }
      for name in folder.folders {
        // A link may lead back up.
        let path = FilePath(folder.path(of: name))
        let status = try? FileSystem.status(of: path, followingLinks: false)
        if status?.isLink ?? true { continue }
        places.append(
          ("\(prefix)\(name)/", try ModelFolder(path.string, limits: limits), depth + 1))
      }
    }
    return found.isEmpty ? nil : found.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// More than tensor names have components.
  private static let maximumArrayDepth = 32

  /// Every file that is no tensor file, and whatever lies in subfolders, to come along.
  func companions(besides taken: Set<String>) throws(SurgeryError) -> [Checkpoint.Companion] {
    names.filter { name in
      !taken.contains(name) && FileFormat(extensionOf: name) == nil
        && !name.hasSuffix(".index.json")
    }.map { Checkpoint.Companion(relativePath: $0, path: path(of: $0)) }
  }

  /// A JSON file of the folder, parsed strictly; `nil` where it is absent.
  func json(_ name: String) throws(SurgeryError) -> JSONValue? {
    guard names.contains(name) else { return nil }
    return try JSONValue(readingFile: path(of: name))
  }
}

extension JSONValue {
  /// No configuration or index of a model comes near this size.
  static let maximumFileSize: UInt64 = 100_000_000

  /// Reads and parses a JSON file.
  ///
  /// - Parameter path: A regular file of at most 100 MB.
  /// - Throws: `json.…` or `file.…` with the file.
  public init(readingFile path: String) throws(SurgeryError) {
    do throws(SurgeryError) {
      try self.init(parsing: try Self.bytes(ofFile: path))
    } catch {
      throw error.inFile(path)
    }
  }

  /// Reads a JSON file, bounded, without parsing it.
  static func bytes(ofFile path: String) throws(SurgeryError) -> [UInt8] {
    let file = try InputFile(path)
    guard file.size <= Self.maximumFileSize else {
      throw SurgeryError(
        .data, "json.too-large", "the JSON file is too large", file: path,
        expected: "at most \(Self.maximumFileSize) bytes", found: "\(file.size, counting: "byte")")
    }
    return try file.bytes(at: 0, count: Int(file.size))
  }
}
