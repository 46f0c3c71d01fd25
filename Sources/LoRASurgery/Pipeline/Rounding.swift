import Checkpoints
import Tensors

/// Rounds values in place to what a storage dtype can hold.
struct Rounding<Scalar: WorkingScalar> {
  let dtype: DType
  private(set) var loss = NarrowingLoss()
  private var bytes: [UInt8] = []

  init(to dtype: DType) { self.dtype = dtype }

  /// Refuses finite values that did not fit, unless that is allowed.
  ///
  /// - Throws: `dtype.overflow`.
  func checkOverflow(allowed: Bool) throws(SurgeryError) {
    guard loss.overflowed > 0, !allowed else { return }
    throw .overflow(of: loss, storedAs: dtype)
  }

  /// Narrows and widens again, counting what did not fit.
  ///
  /// - Throws: `dtype.factors` for a dtype that holds no numbers.
  mutating func round(_ values: inout MutableSpan<Scalar>) throws(SurgeryError) {
    guard dtype.isFloatingPoint, let size = dtype.byteCount(ofElements: values.count) else {
      throw SurgeryError(
        .usage, "dtype.factors", "factors cannot be stored in this dtype", found: dtype.name)
    }
    // Taken out of self for the call: the counts are changed while the buffer is lent.
    var scratch: [UInt8] = []
    swap(&scratch, &bytes)
    defer { swap(&scratch, &bytes) }
    if scratch.count < size { scratch = [UInt8](repeating: 0, count: size) }
    var span = scratch.mutableSpan
    var part = span._mutatingExtracting(0..<size)
    var target = unsafe part.mutableBytes
    loss += Scalar.narrow(values.span, to: dtype, into: &target)
    unsafe Scalar.widen(scratch.span.extracting(0..<size).bytes, from: dtype, into: &values)
  }
}

extension DType? {
  /// Refuses dtypes that the tensors of a model cannot be converted to.
  ///
  /// - Throws: `dtype.tensors`.
  func checkedForTensors() throws(SurgeryError) {
    guard let dtype = self, !dtype.isFloatingPoint else { return }
    throw SurgeryError(
      .usage, "dtype.tensors", "tensors cannot be converted to this dtype", found: dtype.name)
  }
}

extension SurgeryError {
  /// The error for finite values that their storage dtype cannot hold.
  static func overflow(
    of loss: NarrowingLoss, storedAs dtype: DType, in tensor: StoredTensor? = nil
  ) -> SurgeryError {
    let wider = dtype == .bf16 || dtype == .f32 ? "f64" : "bf16 or f32"
    return SurgeryError(
      .data, "dtype.overflow", "\(loss.overflowed) finite values do not fit \(dtype)",
      file: tensor?.source.file.path, tensor: tensor?.name.text,
      hint: "--dtype \(wider) holds them; --allow-overflow accepts the loss")
  }
}
