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
    if let name = Self.names.first(where: { Places.exists(FilePath(path).appending($0).string) }) {
      filePath = FilePath(path).appending(name)
    } else if let inner = Self.namedAdapter(in: path) {
      filePath = inner
    } else if Places.isFolder(path) {
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
    if Places.exists(sidecar.string) {
      configPath = sidecar.string
      let config = try JSONValue(readingFile: sidecar.string)
      guard config.members != nil else {
        throw SurgeryError.adapter(
          "config", "adapter_config.json is not a JSON object", file: sidecar.string,
          expected: "an object with peft_type",
          found: DisplayText.escaped(String(config.text().prefix(40))))
      }
      self.config = config
    } else {
      configPath = nil
      config = nil
    }
  }

  /// The dimensions of a tensor without elements, multiplied but for the zeros, at most.
  ///
  /// No byte of the file stands behind such dimensions, so that any product of a few of them must be harmless. A pruned
  /// module's factors, of rank 0, have the length of a weight's side.
  private static let maximumEmptySize = 1 << 20

  /// Refuses tensors without elements that claim to be large all the same.
  ///
  /// - Throws: `adapter.shape`.
  func refuseLargeEmptyTensors() throws(SurgeryError) {
    for tensor in tensors where tensor.info.shape.elementCount == 0 {
      let size = tensor.info.shape.dimensions.lazy.filter { $0 > 0 }.reduce(1, *)
      guard size <= Self.maximumEmptySize else {
        throw SurgeryError.adapter(
          "shape", "a tensor without elements has impossible dimensions", file: file.file.path,
          key: tensor.name.text, expected: "at most \(Self.maximumEmptySize) beside the zero",
          found: "\(tensor.info.shape)")
      }
    }
  }

  /// The file of an adapter that has a name other than `default`, which PEFT gives a folder of its own
  /// (peft:src/peft/peft_model.py, `save_pretrained`); `nil` where there are several.
  private static func namedAdapter(in path: String) -> FilePath? {
    let folders = ((try? Places.names(in: path)) ?? []).map { FilePath(path).appending($0) }
      .filter { Places.exists($0.appending("adapter_config.json").string) }
    guard folders.count == 1, let folder = folders.first else { return nil }
    return names.map { folder.appending($0) }.first { Places.exists($0.string) }
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
