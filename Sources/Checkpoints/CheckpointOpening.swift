import SystemPackage
public import Tensors

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
      let value = try JSONValue(readingFile: path)
      do throws(SurgeryError) {
        files[0].file.metadata = try NpzRecords.metadata(in: value, of: NpzRecords.metadataMember)
      } catch { throw error.inFile(path) }
    }
    try self.init(
      path: folder.path, layout: .arrays, files: files,
      companions: folder.companions(besides: [NpzRecords.metadataMember]),
      config: try folder.json("config.json"))
  }

  private init(model folder: ModelFolder) throws(SurgeryError) {
    let config = try folder.json("config.json")
    if let index = try folder.indexName() {
      let shards = try ShardIndex(folder: folder, name: index)
      let beside = folder.surroundings(
        of: Set(shards.files.map(\.relativePath)).union([index]))
      try self.init(
        path: folder.path, layout: .sharded(index: index), files: shards.files,
        companions: beside.companions, leftBehind: beside.leftBehind, config: config,
        warnings: shards.warnings)
    } else {
      let name = try folder.weightsName()
      let file = try TensorFile(opening: folder.path(of: name), limits: folder.limits)
      let beside = folder.surroundings(of: [name])
      try self.init(
        path: folder.path, layout: .folder(file: name), files: [(name, file)],
        companions: beside.companions, leftBehind: beside.leftBehind, config: config)
    }
  }

  /// The tensors of a pipeline's components are named `COMPONENT/NAME`.
  private init(pipeline folder: ModelFolder) throws(SurgeryError) {
    var files: [(relativePath: String, file: TensorFile)] = []
    var companions = folder.companions(besides: [])
    var leftBehind: [String] = []
    var warnings: [String] = []
    for component in folder.folders {
      let inner = try ModelFolder(folder.path(of: component), limits: folder.limits)
      guard inner.hasWeights else {
        companions += inner.companions(besides: []).map { $0.inside(component) }
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
      leftBehind += model.leftBehind.map { "\(component)/\($0)" }
      if case .sharded(let index) = model.layout {
        companions.append(
          Companion(
            relativePath: "\(component)/\(index)", path: inner.path(of: index)))
      }
    }
    try self.init(
      path: folder.path, layout: .pipeline, files: files, companions: companions,
      leftBehind: leftBehind, config: nil, warnings: warnings)
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
