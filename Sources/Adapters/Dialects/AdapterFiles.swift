import Checkpoints
import SystemPackage
import Tensors

/// The files of an adapter, opened, before anyone knows its dialect.
struct AdapterFiles: Sendable {
  /// The path as the user named it.
  let path: String
  /// The file of tensors.
  let file: TensorFile
  /// The name of that file without its folder.
  let fileName: String
  /// The configuration beside it (`adapter_config.json`), where there is one.
  let config: JSONValue?
  /// The path of the configuration.
  let configPath: String?

  var tensors: [StoredTensor] { file.tensors }
  var metadata: [String: String] { file.metadata }

  /// File names of tensors in an adapter's folder, the first that exists being read: a `.bin` beside a `.safetensors`
  /// is never opened.
  static let names = [
    "adapter_model.safetensors", "adapters.safetensors", "pytorch_lora_weights.safetensors",
    "adapter_model.bin", "adapters.npz", "pytorch_lora_weights.bin", "lit_model.pth.lora",
    "adapter_model.pt", "adapter_model.lra",
  ]

  /// Opens an adapter's file, or the file in an adapter's folder, with the configuration beside it.
  init(opening path: String, limits: ReadLimits) throws(SurgeryError) {
    var filePath = FilePath(path)
    if let name = Self.names.first(where: { Self.exists(FilePath(path).appending($0)) }) {
      filePath = FilePath(path).appending(name)
    } else if Self.isFolder(filePath) {
      guard let only = try Self.onlyFile(in: path, limits) else {
        throw SurgeryError(
          .missingInput, "adapter.no-weights", "the folder holds no file of adapter tensors",
          file: path, expected: Self.names.prefix(3).joined(separator: ", "))
      }
      filePath = FilePath(path).appending(only)
    }
    try self.init(
      path, filePath, try TensorFile(opening: filePath.string, limits: limits))
  }

  /// Takes the one file of an opened checkpoint, with the configuration beside it; `nil` where it has several.
  init?(of checkpoint: Checkpoint) throws(SurgeryError) {
    guard checkpoint.files.count == 1, let only = checkpoint.files.first else { return nil }
    try self.init(checkpoint.path, FilePath(only.file.file.path), only.file)
  }

  private init(_ path: String, _ filePath: FilePath, _ file: TensorFile) throws(SurgeryError) {
    self.path = path
    self.file = file
    fileName = filePath.lastComponent?.string ?? path
    let folder = filePath.removingLastComponent()
    let sidecar = folder.appending("adapter_config.json")
    if Self.exists(sidecar) {
      configPath = sidecar.string
      config = try JSONValue(readingFile: sidecar.string)
    } else {
      configPath = nil
      config = nil
    }
  }

  private static func exists(_ path: FilePath) -> Bool {
    (try? FileDescriptor.open(path, .readOnly, options: [.nonBlocking, .closeOnExec])).map {
      try? $0.close()
    } != nil
  }

  private static func isFolder(_ path: FilePath) -> Bool {
    (try? FileDescriptor.open(path, .readOnly, options: [.directory, .closeOnExec])).map {
      try? $0.close()
    } != nil
  }

  /// The one file of tensors in a folder that uses no name of any dialect.
  private static func onlyFile(
    in path: String, _ limits: ReadLimits
  ) throws(SurgeryError) -> String? {
    let checkpoint: Checkpoint
    do { checkpoint = try Checkpoint(opening: path, limits: limits) } catch {
      if error.kind == .missingInput { return nil }
      throw error
    }
    return checkpoint.files.count == 1 ? checkpoint.files.first?.relativePath : nil
  }
}
