import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// The factors of a stored matrix, rounded to their storage dtype and waiting in the spool; of a stack those of all matrices,
/// one below the other.
struct StoredFactors: Sendable {
  /// Rows of the storage by rank.
  var left: StoredTensor
  /// Rank by columns of the storage.
  var right: StoredTensor

  /// The update of a stack that these factors are.
  func update(of stack: ExpertStack) throws(SurgeryError) -> StackedLowRank {
    try StackedLowRank(left: Factor(left), right: Factor(right), of: stack)
  }

  /// The factors of the `out x in` matrix.
  func factors(isTransposed: Bool) -> (up: Factor, down: Factor) {
    isTransposed
      ? (Factor(right).transposed(), Factor(left).transposed()) : (Factor(left), Factor(right))
  }
}

extension TensorName {
  /// Of what has no name of its own between its computing and its writing.
  static let factor: Self = "factor"
}

extension SpoolFile {
  /// Appends elements that are in their storage dtype, as a tensor without a name of its own.
  ///
  /// - Throws: What writing throws.
  func append(
    _ bytes: [UInt8], shape: Shape, as dtype: DType
  ) throws(SurgeryError) -> StoredTensor {
    guard let info = TensorInfo(name: .factor, dtype: dtype, shape: shape) else {
      throw SurgeryError(.bug, "bug.factor-size", "a factor of \(shape) \(dtype) has no size")
    }
    return try unsafe append(bytes.span.bytes, as: info)
  }

  /// Appends a matrix that was rounded to its storage dtype.
  ///
  /// - Throws: What writing throws.
  func append<Scalar: BLASScalar>(
    _ matrix: Matrix<Scalar>, as dtype: DType
  ) throws(SurgeryError) -> StoredTensor {
    try append(
      matrix.elements.narrowed(to: dtype),
      shape: Shape(rows: matrix.rows, columns: matrix.columns), as: dtype)
  }
}
