public import Tensors

/// Where the bytes of a stored tensor come from.
///
/// What a source delivers is always the tensor's elements in row-major order, little-endian, in the dtype that its
/// `TensorInfo` states; how they lie in the file (compressed, strided, big-endian, quantised) is the source's
/// own affair. Sources are values and may wrap one another.
public protocol TensorSource: Sendable {
  /// The file that holds the tensor.
  var file: InputFile { get }

  /// Position in the file of the first byte, where the delivered bytes lie there as they are; `nil` where
  /// they are decoded. Such tensors can be copied inside the kernel.
  var plainOffset: UInt64? { get }

  /// Whether reading from front to back is much cheaper than anywhere else, as in compressed data.
  var isSequential: Bool { get }

  /// The tensor's bytes as they are stored, where that is another dtype than the one delivered.
  var encoded: EncodedTensor? { get }

  /// Makes a reader with its own position and scratch; one reader serves one thread.
  func makeReader() throws(SurgeryError) -> any TensorReader
}

extension TensorSource {
  /// Nothing: what is stored is what is delivered.
  public var encoded: EncodedTensor? { nil }
}

/// The stored form of a tensor that its source decodes into another dtype.
public struct EncodedTensor: Sendable {
  /// The dtype in the file, such as Q8_0 of a tensor that is delivered as F32.
  public var dtype: DType
  /// Where its bytes lie.
  public var source: PlainSource

  /// Describes a stored form.
  public init(dtype: DType, source: PlainSource) {
    self.dtype = dtype
    self.source = source
  }
}

/// Reads the delivered bytes of one tensor.
public protocol TensorReader {
  /// Fills `target` with delivered bytes.
  ///
  /// - Parameters:
  ///   - offset: Position in the delivered bytes; `offset + target.byteCount` is within the tensor.
  ///   - target: Filled completely.
  /// - Throws: `io.read`, `io.changed`, or what decoding finds.
  mutating func read(at offset: Int, into target: inout MutableRawSpan) throws(SurgeryError)
}

/// A tensor of which the bytes lie in the file as they are delivered.
public struct PlainSource: TensorSource {
  /// The file that holds the tensor.
  public let file: InputFile
  /// Position of the first byte in the file.
  public let offset: UInt64

  /// Describes a tensor whose first byte is at `offset`.
  public init(file: InputFile, offset: UInt64) {
    self.file = file
    self.offset = offset
  }

  /// The position, since bytes are delivered as they lie.
  public var plainOffset: UInt64? { offset }

  /// Always false: every position costs the same.
  public var isSequential: Bool { false }

  /// Makes a reader, which has no state.
  public func makeReader() -> any TensorReader { Reader(file: file, offset: offset) }

  private struct Reader: TensorReader {
    let file: InputFile
    let offset: UInt64

    func read(at position: Int, into target: inout MutableRawSpan) throws(SurgeryError) {
      try file.read(at: offset + UInt64(position), into: &target)
    }
  }
}

/// A tensor of a checkpoint: what it is, and where its bytes come from.
public struct StoredTensor: Sendable {
  /// Name, dtype and shape.
  public let info: TensorInfo
  /// Where the bytes come from.
  public let source: any TensorSource

  /// Pairs a tensor's description with its source.
  public init(info: TensorInfo, source: any TensorSource) {
    self.info = info
    self.source = source
  }

  /// The tensor's name.
  public var name: TensorName { info.name }

  /// The dtype in the file, which is `info.dtype` unless reading decodes.
  public var storedDType: DType { source.encoded?.dtype ?? info.dtype }

  /// The tensor as its file has it, for copies into the same container: a Q8_0 tensor stays Q8_0.
  public var undecoded: Self {
    guard let encoded = source.encoded,
      let stored = TensorInfo(name: info.name, dtype: encoded.dtype, shape: info.shape)
    else { return self }
    return Self(info: stored, source: encoded.source)
  }

  /// The same bytes under another name.
  public func renamed(_ name: TensorName) -> Self {
    var info = info
    info.name = name
    return Self(info: info, source: source)
  }

  /// A failure of work on this tensor, with its file and name.
  ///
  /// - Parameter error: What failed.
  /// - Returns: The same; where data is bad because the file was changed meanwhile, that.
  public func explained(_ error: SurgeryError) -> SurgeryError {
    var error = error
    if error.kind == .data {
      do throws(SurgeryError) { try source.file.checkUnchanged() } catch let change {
        error = change
      }
    }
    return error.inFile(source.file.path).inTensor(name)
  }

  /// All bytes of the tensor, for small tensors.
  ///
  /// - Returns: `info.byteCount` bytes.
  /// - Throws: What reading throws, with file and tensor.
  public func bytes() throws(SurgeryError) -> [UInt8] {
    do throws(SurgeryError) {
      var reader = try source.makeReader()
      return try [UInt8](filling: info.byteCount) { (target) throws(SurgeryError) in
        try reader.read(at: 0, into: &target)
      }
    } catch {
      throw explained(error)
    }
  }
}

extension [UInt8] {
  /// Creates an array of `count` bytes that `fill` writes.
  init(
    filling count: Int, _ fill: (inout MutableRawSpan) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    self.init(repeating: 0, count: count)
    try withMutableRawSpan(0..<count, fill)
  }
}

extension [UInt8] {
  /// Lends a range of the array as raw bytes.
  ///
  /// - Throws: What `body` throws.
  public mutating func withMutableRawSpan<Result>(
    _ range: Range<Int>, _ body: (inout MutableRawSpan) throws(SurgeryError) -> Result
  ) throws(SurgeryError) -> Result {
    var span = mutableSpan
    var part = span._mutatingExtracting(range)
    var bytes = unsafe part.mutableBytes
    return try body(&bytes)
  }
}
