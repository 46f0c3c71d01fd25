internal import Tensors

extension RitzBasis {
  /// The leading Ritz vectors, moved towards what their residuals point at, at the cost of no reading.
  ///
  /// The basis is widened by the residuals and the matrix projected on it once more. All of that projection is known, what
  /// the matrix does to the basis being known, but for what it does within the residuals: there it is taken for `shift`
  /// times the identity. Vector by vector this would be `v + r / (θ - shift)`, half a step of inverse iteration; together,
  /// the vectors also turn towards each other as the widened space asks for.
  ///
  /// - Parameters:
  ///   - residuals: The residuals of the Ritz vectors, one a row, or others that span with the basis what they span.
  ///   - shift: The Ritz value that is assumed for their directions.
  ///   - wanted: The number of vectors.
  /// - Returns: Orthonormal vectors by descending value, as many as wanted if the widened basis has them.
  /// - Throws: `la.not-converged` or `la.memory` from LAPACK.
  func freeStep(
    towards residuals: Matrix<Scalar>, shift: Double, keeping wanted: Int
  ) throws(SurgeryError) -> Matrix<Scalar> {
    let directions = try complement(of: residuals)
    let (known, size) = (count, count + directions.rows)
    let coupling = product(gram, directions, transposeSecond: true)
    var wider = Matrix<Double>(rows: size, columns: size)
    for i in 0..<known {
      for j in 0..<known { wider[i, j] = projected[i, j] }
      for j in 0..<directions.rows {
        wider[i, known + j] = Double(coupling[i, j])
        wider[known + j, i] = Double(coupling[i, j])
      }
    }
    for i in known..<size { wider[i, i] = shift }
    let coefficients = try symmetricEigenpairs(wider).vectors.prefix(wanted)
    return try orthonormalRows(
      product(coefficients.converted(to: Scalar.self), basis.appending(directions))
    ).basis
  }
}
