public import Tensors

/// One file of tensors, opened and understood, with no data read.
public struct TensorFile: Sendable {
  /// The opened file.
  public let file: InputFile
  /// Its container format.
  public let format: FileFormat
  /// Its tensors in the order of the file.
  public var tensors: [StoredTensor]
  /// The metadata of the container as strings.
  public var metadata: [String: String]
  /// The types of the metadata's values, where the container is GGUF.
  public var ggufMetadata = GGUFMetadata()
  /// The header, where the container is the compact format.
  public var compactHeader: CompactHeader?
  /// What was read though it is unusual.
  public var warnings: [String]

  /// Describes an opened file.
  public init(
    file: InputFile, format: FileFormat, tensors: [StoredTensor], metadata: [String: String] = [:],
    warnings: [String] = []
  ) {
    self.file = file
    self.format = format
    self.tensors = tensors
    self.metadata = metadata
    self.warnings = warnings
  }

  /// Opens a file of any known format, recognised by its first bytes.
  ///
  /// - Parameters:
  ///   - path: The path of a regular file.
  ///   - limits: What reading may cost.
  /// - Throws: What opening and the format's reader throw, with the file.
  public init(
    opening path: String, limits: ReadLimits = ReadLimits()
  ) throws(SurgeryError) {
    let file = try InputFile(path)
    let format = try FileFormat.detect(file)
    switch format {
    case .safetensors: self = try .safetensors(file)
    case .gguf: self = try .gguf(file)
    case .npy: self = try .npy(file)
    case .npz: self = try .npz(file, limits: limits)
    case .torch: self = try .torch(file, limits: limits)
    case .compact: self = try .compact(file)
    }
  }
}
