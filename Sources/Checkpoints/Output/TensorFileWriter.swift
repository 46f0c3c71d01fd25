public import Tensors

/// Writes one file of tensors in one format.
///
/// A writer is made with everything that its header needs, so that the place of every byte is known before the first is
/// computed; blocks may then come from many threads in any order, unless the format can only be written in order.
protocol TensorFileWriter: Sendable {
  /// Whether tensors must be written one after the other, each from front to back, as compressed data must.
  var isSequential: Bool { get }

  /// The position in the file of a tensor's first byte, where its bytes lie there as they are.
  func plainOffset(of tensor: Int) -> UInt64?

  /// Writes bytes of one tensor.
  ///
  /// - Parameters:
  ///   - bytes: Elements in row-major order, little-endian.
  ///   - tensor: Position of the tensor in the plan of this file.
  ///   - offset: Position of `bytes` in the tensor.
  ///   - stage: Where they may wait to be written in large parts.
  /// - Throws: `io.write` or `output.no-space`.
  func write(
    _ bytes: RawSpan, tensor: Int, at offset: Int, through stage: WriteStage
  ) throws(SurgeryError)

  /// Writes all of a quantised tensor, where the format has such.
  func write(_ matrix: EncodedMatrix, tensor: Int) throws(SurgeryError)

  /// Writes what can only be written when all data is there (directories, checksums).
  func finish() throws(SurgeryError)
}

extension TensorFileWriter {
  /// Other formats have no such tensors; who plans one for them is at fault.
  func write(_ matrix: EncodedMatrix, tensor: Int) throws(SurgeryError) {
    throw SurgeryError(.bug, "output.format", "the format has no quantised tensors")
  }
}

/// What one file of an output will hold.
public struct TensorFilePlan: Sendable {
  /// Path inside the output folder; the file's own name where the output is a file.
  public var relativePath: String
  /// The container format.
  public var format: FileFormat
  /// The tensors in the order of the plan; a format may lay them out in another.
  public var tensors: [TensorInfo]
  /// Metadata of the container.
  public var metadata: [String: String]
  /// The types of metadata values in GGUF.
  ///
  /// A key whose text here is the one in `metadata` is written with its type, every other key of `metadata` as a string. The
  /// other formats take no notice.
  public var ggufMetadata = GGUFMetadata()
  /// How hard npz compresses, 1 (fastest) to 9 (smallest); `nil` stores the tensors as they are.
  public var compression: Int?
  /// Codecs and further sections, where the format is the compact one.
  public var compact: CompactPlan?

  /// Creates a plan of one file.
  public init(
    relativePath: String, format: FileFormat, tensors: [TensorInfo], metadata: [String: String],
    compression: Int? = nil
  ) {
    self.relativePath = relativePath
    self.format = format
    self.tensors = tensors
    self.metadata = metadata
    self.compression = compression
  }

  /// Bytes of the planned tensors' data.
  public var byteCount: Int { tensors.reduce(0) { $0 + $1.byteCount } }

  /// Makes the writer of the plan's format in a file that `makeFile` creates with a given size.
  func makeWriter(
    _ makeFile: (UInt64?) throws(SurgeryError) -> OutputFile
  ) throws(SurgeryError) -> any TensorFileWriter {
    switch format {
    case .safetensors: try SafetensorsWriter(self, makeFile)
    case .gguf: try GGUFWriter(self, makeFile)
    case .npy: try NpyWriter(self, makeFile)
    case .npz:
      if let compression {
        try DeflatedNpzWriter(self, level: compression, makeFile)
      } else {
        try StoredNpzWriter(self, makeFile)
      }
    case .compact: try CompactWriter(self, makeFile)
    case .torch:
      throw SurgeryError(
        .bug, "output.format", "a file was planned in a format that is only read",
        file: relativePath, found: format.rawValue)
    }
  }
}
