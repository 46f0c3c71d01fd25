internal import COpenBLAS
internal import Tensors

/// All eigenvalues of a symmetric matrix in descending order, and the leading vectors.
struct Eigenpairs<Scalar: BLASScalar> {
  var values: [Double]
  /// One vector a row.
  var vectors: Matrix<Scalar>
}

/// Decomposes a symmetric matrix with all its vectors.
///
/// - Throws: `la.not-converged`, on which the caller falls back or gives up, or `la.memory`.
func symmetricEigenpairs(_ matrix: Matrix<Double>) throws(SurgeryError) -> Eigenpairs<Double> {
  guard matrix.rows > 0 else { return Eigenpairs(values: [], vectors: matrix) }
  var scratch = matrix
  return try TridiagonalForm(of: &scratch).pairs { $0.count }
}

/// A symmetric matrix in tridiagonal form, whose vectors are taken back to the matrix as far as they are wanted.
///
/// The steps of LAPACK's `syevd` one by one, in either precision: `sytrd`, `sterf` or `stedc`, `ormtr`.
struct TridiagonalForm<Scalar: BLASScalar> {
  private let size: Int
  private let reflectors: [Scalar]
  private let scales: [Scalar]
  private let diagonal: [Scalar]
  private let besideDiagonal: [Scalar]

  /// Reduces a matrix of at least one row, in its own memory.
  ///
  /// - Throws: `la.memory`.
  /// - Complexity: O(*n*³) time, of which half are products of matrices with vectors.
  init(of matrix: inout Matrix<Scalar>) throws(SurgeryError) {
    let size = matrix.rows
    var reflectors = matrix.takeElements()
    var diagonal = zeros(size, of: Scalar.self)
    var (beside, scales) = (diagonal, diagonal)
    try checkLapack(
      unsafe Scalar.routines.tridiagonalise(size, &reflectors, &diagonal, &beside, &scales),
      "sytrd")
    self.size = size
    self.reflectors = reflectors
    self.scales = scales
    self.diagonal = diagonal
    besideDiagonal = beside
  }

  /// All eigenvalues, descending.
  ///
  /// - Throws: `la.not-converged`.
  func values() throws(SurgeryError) -> [Double] {
    var (values, beside) = (diagonal, besideDiagonal)
    try checkLapack(unsafe Scalar.routines.tridiagonalValues(size, &values, &beside), "sterf")
    return convert(values.span, to: Double.self).reversed()
  }

  /// Decomposes the form, and takes the leading vectors back.
  ///
  /// - Parameter count: How many vectors are wanted, given the eigenvalues.
  /// - Returns: All eigenvalues and as many vectors.
  /// - Throws: `la.not-converged`, `la.memory`, or what `count` throws.
  /// - Complexity: O(*n*³) time at most, all of it products of matrices; memory for two more matrices of its size.
  func pairs(
    _ count: ([Double]) throws(SurgeryError) -> Int
  ) throws(SurgeryError) -> Eigenpairs<Scalar> {
    var (values, beside) = (diagonal, besideDiagonal)
    var columns = zeros(size * size, of: Scalar.self)
    try checkLapack(
      unsafe Scalar.routines.tridiagonalVectors(size, &values, &beside, &columns), "stedc")
    let descending: [Double] = convert(values.span, to: Double.self).reversed()
    let wanted = min(size, try count(descending))
    // LAPACK's order is ascending, and its columns are our rows.
    var vectors = slice(columns, (size - wanted) * size..<size * size)
    columns = []
    if wanted > 0 {
      try checkLapack(
        unsafe Scalar.routines.restoreVectors(size, wanted, reflectors, scales, &vectors), "ormtr")
      reverseRows(&vectors, width: size)
    }
    return Eigenpairs(
      values: descending, vectors: Matrix(rows: wanted, columns: size, elements: vectors))
  }
}
