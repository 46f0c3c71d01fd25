import LinearAlgebra
import Tensors

/// The factors of a matrix with what they leave of it, after rounding.
struct RoundedFactors<Scalar: BLASScalar> {
  var up: Matrix<Scalar>
  var down: Matrix<Scalar>
  var squaredResidual: Double
}

extension TensorFactoring {
  /// The factors of a matrix, `down` rounded to the storage dtype and `up` fitted to it.
  ///
  /// - Throws: `dtype.overflow`, and what reading throws.
  func roundedFactors<Scalar: BLASScalar>(
    of delta: inout DeltaMatrix<Scalar>, _ found: LeadingSubspace<Scalar>, rank: Int, _ dtype: DType
  ) throws(SurgeryError) -> RoundedFactors<Scalar> {
    let leading = LeadingSubspace(
      right: found.right.prefix(rank), singularValues: Array(found.singularValues.prefix(rank)),
      squaredNorm: found.squaredNorm)
    var rounding = Rounding<Scalar>(to: dtype)
    var down = leading.balancedDown(rank: rank)
    try down.withElements { (span) throws(SurgeryError) in try rounding.round(&span) }
    try rounding.checkOverflow(allowed: request.allowOverflow)
    let fitted = try fit(&delta, down: down, squaredNorm: leading.squaredNorm) {
      (up) throws(SurgeryError) in try rounding.round(&up)
    }
    try rounding.checkOverflow(allowed: request.allowOverflow)
    return RoundedFactors(up: fitted.up, down: down, squaredResidual: fitted.squaredResidual)
  }
}
