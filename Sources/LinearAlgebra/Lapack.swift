internal import COpenBLAS
public import Tensors

/// A thin singular value decomposition `left · diag(values) · right`.
struct SingularTriplets<Scalar: BLASScalar> {
  /// Rows of the matrix x count; one left vector a column.
  var left: Matrix<Scalar>
  /// Descending.
  var values: [Scalar]
  /// Count x columns of the matrix; one right vector a row.
  var right: Matrix<Scalar>
}

/// Decomposes a finite matrix by LAPACK `gesdd`.
///
/// - Throws: `la.not-converged`, on which the caller falls back or gives up.
func singularTriplets<Scalar: BLASScalar>(_ matrix: Matrix<Scalar>) throws(SurgeryError)
  -> SingularTriplets<Scalar>
{
  let (rows, columns) = (matrix.rows, matrix.columns)
  let count = min(rows, columns)
  var left = zeros(rows * count, of: Scalar.self)
  var right = zeros(count * columns, of: Scalar.self)
  var values = zeros(count, of: Scalar.self)
  if count > 0 {
    var scratch = matrix.elements
    // LAPACK sees the transpose: its left vectors are our right ones.
    try checkLapack(
      unsafe Scalar.routines.singularValues(columns, rows, &scratch, &values, &right, &left),
      "gesdd")
  }
  return SingularTriplets(
    left: Matrix(rows: rows, columns: count, elements: left), values: values,
    right: Matrix(rows: count, columns: columns, elements: right))
}

/// Orthonormal rows that span the rows of a matrix, and the coefficients that give the rows back.
///
/// By the Cholesky factor of their Gram matrix in float64, which is all matrix products; a second time where the rows were far
/// from orthogonal (Yamamoto, Nakatsukasa, Yanagisawa & Fukaya 2015, doi:10.1553/etna_vol44s306), and by Householder reflections
/// where they are too nearly dependent.
///
/// - Parameter matrix: At most as many rows as columns.
/// - Returns: `basis`, of the same shape, and the square `factor` with `matrix = factor · basis`, lower triangular.
/// - Throws: `la.memory` where LAPACK gets no workspace.
func orthonormalRows<Scalar: BLASScalar>(_ matrix: Matrix<Scalar>) throws(SurgeryError)
  -> (basis: Matrix<Scalar>, factor: Matrix<Scalar>)
{
  let (count, width) = (matrix.rows, matrix.columns)
  precondition(count <= width, "\(count) rows of width \(width) cannot be orthonormal")
  if let first = choleskyRows(matrix) {
    if first.independence > 0.1 { return (first.basis, first.factor.converted(to: Scalar.self)) }
    if let second = choleskyRows(first.basis) {
      return (second.basis, product(first.factor, second.factor).converted(to: Scalar.self))
    }
  }
  var basis = matrix.elements
  var factor = zeros(count * count, of: Scalar.self)
  if count > 0 {
    try checkLapack(unsafe Scalar.routines.orthonormalise(width, count, &basis, &factor), "geqrf")
  }
  return (
    Matrix(rows: count, columns: width, elements: basis),
    Matrix(rows: count, columns: count, elements: factor)
  )
}

/// The rows multiplied by the inverse of the Cholesky factor of their Gram matrix; `nil` where they are nearly dependent.
///
/// Independence is the least part of a row's length that its predecessors leave.
private func choleskyRows<Scalar: BLASScalar>(_ matrix: Matrix<Scalar>)
  -> (basis: Matrix<Scalar>, factor: Matrix<Double>, independence: Double)?
{
  let n = matrix.rows
  var factor = rowProducts(matrix)
  let lengths = (0..<n).map { factor[$0, $0].squareRoot() }
  // LAPACK's upper triangle is our lower one.
  let failed = factor.withElements { (span) -> Bool in
    unsafe span.withUnsafeMutableBufferPointer { elements in
      guard let start = elements.baseAddress else { return false }
      return unsafe lora_dcholesky(Int32(n), start) != 0
    }
  }
  let independence = (0..<n).map { factor[$0, $0] / lengths[$0] }.min() ?? 1
  guard !failed, independence > 1e-3 else { return nil }
  for row in 0..<n { for column in row + 1..<max(n, row + 1) { factor[row, column] = 0 } }
  var inverse = factor
  let singular = inverse.withElements { (span) -> Bool in
    unsafe span.withUnsafeMutableBufferPointer { elements in
      guard let start = elements.baseAddress else { return false }
      return unsafe lora_dtriangularInverse(Int32(n), start) != 0
    }
  }
  guard !singular else { return nil }
  return (product(inverse.converted(to: Scalar.self), matrix), factor, independence)
}

/// The inverse of a symmetric positive semidefinite matrix on the span of its well-determined part.
///
/// Rows of zeros stay zero. The matrix is scaled to a unit diagonal first, so rows of very different size do
/// no harm; where Cholesky still fails, eigenvalues below 1e-13 of the largest are left out.
///
/// - Parameter matrix: A small symmetric matrix, such as one of inner products.
/// - Returns: The inverse, of the same shape.
/// - Throws: `la.not-converged` where the eigenvalues cannot be found.
/// - Complexity: O(*n*³).
public func pseudoInverse(_ matrix: Matrix<Double>) throws(SurgeryError) -> Matrix<Double> {
  let n = matrix.rows
  let scales = (0..<n).map { matrix[$0, $0] > 0 ? 1 / matrix[$0, $0].squareRoot() : 0 }
  var scaled = matrix
  for i in 0..<n {
    for j in 0..<n { scaled[i, j] *= scales[i] * scales[j] }
    if scales[i] == 0 { scaled[i, i] = 1 }
  }
  var inverse = scaled.elements
  if n > 0, unsafe lora_dinverse(Int32(n), &inverse) == 0 {
    // LAPACK's lower triangle is our upper one.
    for i in 0..<n { for j in 0..<i { inverse[i * n + j] = inverse[j * n + i] } }
  } else if n > 0 {
    let pairs = try symmetricEigenpairs(scaled)
    inverse = [Double](repeating: 0, count: n * n)
    for (k, value) in pairs.values.enumerated() where value > 1e-13 * pairs.values[0] {
      for i in 0..<n {
        for j in 0..<n { inverse[i * n + j] += pairs.vectors[k, i] * pairs.vectors[k, j] / value }
      }
    }
  }
  for i in 0..<n { for j in 0..<n { inverse[i * n + j] *= scales[i] * scales[j] } }
  return Matrix(rows: n, columns: n, elements: inverse)
}

/// Turns LAPACK's info code into an error.
func checkLapack(_ info: Int32, _ routine: String) throws(SurgeryError) {
  if info == 0 { return }
  if info == LORA_NO_MEMORY {
    throw SurgeryError(.unsupported, "la.memory", "no memory for the workspace of \(routine)")
  }
  if info < 0 {
    throw SurgeryError(.bug, "la.argument", "\(routine) refuses argument \(-info)")
  }
  throw SurgeryError(.unsupported, "la.not-converged", "LAPACK \(routine) did not converge")
}
