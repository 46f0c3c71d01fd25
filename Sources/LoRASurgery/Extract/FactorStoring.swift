import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// How factors become tensors of the adapter: rounded, one fitted to the other, and spooled.
extension TensorFactoring {
  /// The factors of a matrix, rounded to their storage dtype.
  func roundedFactors<Scalar: BLASScalar>(
    of delta: inout DeltaMatrix<Scalar>, _ found: LeadingSubspace<Scalar>, rank: Int, _ dtype: DType
  ) throws(SurgeryError) -> RoundedFactors<Scalar> {
    let leading = LeadingSubspace(
      right: found.right.prefix(rank), singularValues: Array(found.singularValues.prefix(rank)),
      squaredNorm: found.squaredNorm)
    var rounding = Rounding<Scalar>(to: dtype)
    var down = leading.balancedDown(rank: rank)
    try down.withElements { (span) throws(SurgeryError) in try rounding.round(&span) }
    let fitted = try fit(&delta, down: down, squaredNorm: leading.squaredNorm) {
      (up) throws(SurgeryError) in try rounding.round(&up)
    }
    if rounding.loss.overflowed > 0, !request.allowOverflow {
      throw SurgeryError(
        .data, "dtype.overflow",
        "\(rounding.loss.overflowed) finite values of the factors do not fit \(dtype)",
        hint: "--dtype bf16 or f32 holds them; --allow-overflow accepts the loss")
    }
    return RoundedFactors(up: fitted.up, down: down, squaredResidual: fitted.squaredResidual)
  }

  func store<Scalar: BLASScalar>(
    _ matrix: Matrix<Scalar>, as dtype: DType
  ) throws(SurgeryError) -> StoredTensor {
    try store(
      matrix.elements, shape: Shape(rows: matrix.rows, columns: matrix.columns), as: dtype)
  }

  func store<Scalar: BLASScalar>(
    _ values: [Scalar], shape: Shape, as dtype: DType
  ) throws(SurgeryError) -> StoredTensor {
    try store(try Self.bytes(of: values, as: dtype), shape: shape, as: dtype)
  }

  /// Stores elements that are in their storage dtype already.
  func store(
    _ bytes: [UInt8], shape: Shape, as dtype: DType
  ) throws(SurgeryError) -> StoredTensor {
    guard let info = TensorInfo(name: "factor", dtype: dtype, shape: shape) else {
      throw SurgeryError(.bug, "bug.factor-size", "a factor of \(shape) \(dtype) has no size")
    }
    return try unsafe spool.append(bytes.span.bytes, as: info)
  }

  /// Elements in their storage dtype.
  static func bytes<Scalar: BLASScalar>(
    of values: [Scalar], as dtype: DType
  ) throws(SurgeryError) -> [UInt8] {
    guard let count = dtype.byteCount(ofElements: values.count) else {
      throw SurgeryError(.bug, "bug.factor-size", "\(values.count) \(dtype) have no size")
    }
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    var target = unsafe span.mutableBytes
    _ = Scalar.narrow(values.span, to: dtype, into: &target)
    return bytes
  }
}

/// The factors of a matrix with what they leave of it, after rounding.
struct RoundedFactors<Scalar: BLASScalar> {
  var up: Matrix<Scalar>
  var down: Matrix<Scalar>
  var squaredResidual: Double
}
