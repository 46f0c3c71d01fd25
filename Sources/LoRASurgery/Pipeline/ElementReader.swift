import Checkpoints
import Tensors

/// Reads ranges of a stored tensor's elements in working precision, through one reused buffer.
struct ElementReader<Scalar: WorkingScalar> {
  let tensor: StoredTensor
  private var reader: any TensorReader
  private var bytes: [UInt8]
  private let bytesPerElement: Int

  /// Prepares reading; at most `capacity` elements are read at a time.
  ///
  /// - Throws: `tensor.dtype` where the elements are no numbers to compute with.
  init(_ tensor: StoredTensor, capacity: Int) throws(SurgeryError) {
    guard tensor.info.dtype.isNumeric, let size = tensor.info.dtype.bytesPerElement else {
      throw SurgeryError(
        .unsupported, "tensor.dtype", "elements of this dtype cannot be computed with",
        file: tensor.source.file.path, tensor: tensor.name.text, found: tensor.info.dtype.name)
    }
    self.tensor = tensor
    do throws(SurgeryError) { reader = try tensor.source.makeReader() } catch {
      throw tensor.explained(error)
    }
    bytesPerElement = size
    bytes = [UInt8](repeating: 0, count: capacity * size)
  }

  /// Fills `target` with the elements that begin at `start`.
  mutating func read(from start: Int, into target: inout MutableSpan<Scalar>) throws(SurgeryError) {
    try load(from: start, count: target.count)
    widenLoaded(into: &target)
  }

  /// Reads the bytes of `count` elements that begin at `start`, without widening them.
  mutating func load(from start: Int, count: Int) throws(SurgeryError) {
    let size = count * bytesPerElement
    // Taken out of self for the call: two parts of self cannot be modified at once through a span.
    var scratch: [UInt8] = []
    swap(&scratch, &bytes)
    defer { swap(&scratch, &bytes) }
    do throws(SurgeryError) {
      var span = scratch.mutableSpan
      var part = span._mutatingExtracting(0..<size)
      var raw = unsafe part.mutableBytes
      try reader.read(at: start * bytesPerElement, into: &raw)
    } catch {
      throw tensor.explained(error)
    }
  }

  /// Fills `target` with the elements loaded last.
  func widenLoaded(into target: inout MutableSpan<Scalar>) {
    Scalar.widen(loaded(target.count), from: tensor.info.dtype, into: &target)
  }

  /// Fills `target` with the elements loaded last minus those of `other`, if there is a kernel for their dtypes.
  func widenDifference(from other: Self, into target: inout MutableSpan<Scalar>) -> Bool {
    guard tensor.info.dtype == other.tensor.info.dtype else { return false }
    return Scalar.widenDifference(
      loaded(target.count), other.loaded(target.count), from: tensor.info.dtype, into: &target)
  }

  @_lifetime(borrow self)
  private func loaded(_ count: Int) -> RawSpan {
    unsafe bytes.span.extracting(0..<count * bytesPerElement).bytes
  }
}
