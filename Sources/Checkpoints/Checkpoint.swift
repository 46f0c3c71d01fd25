public import Tensors

/// A file, a folder or a sharded set of files, seen as one namespace of tensors.
///
/// Opening reads headers, indices and `config.json`; no tensor's data is touched.
public struct Checkpoint: Sendable {
  /// How the files of a checkpoint lie on disk.
  public enum Layout: Sendable, Hashable, Codable {
    /// A single file.
    case file
    /// A folder with one file of tensors, by its name in the folder.
    case folder(file: String)
    /// A folder with shards and the index file that names them.
    case sharded(index: String)
    /// A folder of npy files, one for each tensor, named by their paths.
    case arrays
    /// A diffusers pipeline: component folders, whose names prefix their tensors.
    case pipeline
  }

  /// A file beside the tensors that belongs to the model: configuration, tokenizer, licence.
  public struct Companion: Sendable, Hashable {
    /// The path relative to the checkpoint's folder.
    public var relativePath: String
    /// The path to read it from.
    public var path: String

    /// Names a file that comes along.
    public init(relativePath: String, path: String) {
      self.relativePath = relativePath
      self.path = path
    }
  }

  /// The path as the user named it.
  public let path: String
  /// How its files lie on disk.
  public let layout: Layout
  /// The files of tensors, with their paths relative to the checkpoint's folder.
  public let files: [(relativePath: String, file: TensorFile)]
  /// Every tensor, file after file.
  public let tensors: [StoredTensor]
  /// The files that come along when a folder is written from this one.
  public let companions: [Companion]
  /// What lies beside the tensors and does not come along: other weights, and folders that hold more than settings.
  public let leftBehind: [String]
  /// The model's `config.json`, where there is one.
  public let config: JSONValue?
  /// What was read though it is unusual.
  public let warnings: [String]

  private let positions: [TensorName: Int]

  /// Describes a checkpoint whose files are opened.
  ///
  /// - Parameters:
  ///   - path: The path for messages.
  ///   - layout: How its files lie on disk.
  ///   - files: The files of tensors, with their paths relative to the checkpoint's folder.
  ///   - companions: The files that come along.
  ///   - leftBehind: What lies beside them and does not.
  ///   - config: The model's `config.json`.
  ///   - warnings: What was read though it is unusual.
  /// - Throws: `index.repeated` where two files have the same tensor.
  public init(
    path: String, layout: Layout, files: [(relativePath: String, file: TensorFile)],
    companions: [Companion], leftBehind: [String] = [], config: JSONValue?,
    warnings: [String] = []
  ) throws(SurgeryError) {
    self.path = path
    self.layout = layout
    self.files = files
    self.companions = companions
    self.leftBehind = leftBehind
    self.config = config
    self.warnings =
      files.flatMap { entry in
        entry.file.warnings.map { "\(entry.file.file.path): \($0)" }
      } + warnings
    var tensors: [StoredTensor] = []
    var positions: [TensorName: Int] = [:]
    let count = files.reduce(0) { $0 + $1.file.tensors.count }
    tensors.reserveCapacity(count)
    positions.reserveCapacity(count)
    for (_, file) in files {
      for tensor in file.tensors {
        if let other = positions.updateValue(tensors.count, forKey: tensor.name) {
          throw SurgeryError(
            .data, "index.repeated", "the tensor is in two files", file: path,
            tensor: tensor.name.text,
            found: "\(tensors[other].source.file.path) and \(file.file.path)")
        }
        tensors.append(tensor)
      }
    }
    self.tensors = tensors
    self.positions = positions
  }

  /// The tensor with this name, if there is one.
  public subscript(name: TensorName) -> StoredTensor? {
    positions[name].map { tensors[$0] }
  }

  /// The position in `tensors` of the tensor with this name.
  public func position(of name: TensorName) -> Int? { positions[name] }

  /// The metadata of all files together; the first file wins where they differ.
  public var metadata: [String: String] {
    files.reduce(into: [:]) { all, entry in all.merge(entry.file.metadata) { first, _ in first } }
  }

  /// Bytes of all tensors together.
  public var byteCount: Int { tensors.reduce(0) { $0 + $1.info.byteCount } }

  /// Whether the checkpoint is a folder.
  public var isFolder: Bool { layout != .file }

  /// Fails where one of the files is no longer what was opened.
  ///
  /// - Throws: `io.changed` or `io.read` with the file.
  public func checkUnchanged() throws(SurgeryError) {
    for (_, file) in files { try file.file.checkUnchanged() }
  }
}
