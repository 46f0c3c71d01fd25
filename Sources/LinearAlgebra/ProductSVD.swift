public import Tensors

/// The singular value decomposition of a product `up · down`, without forming it.
public struct ProductSVD<Scalar: BLASScalar>: Sendable {
  /// `rank x out`; one left vector a row, orthonormal.
  public var left: Matrix<Scalar>
  /// The singular values, descending; all of the product's, since it has no more than `rank`.
  public var singularValues: [Double]
  /// `rank x in`; one right vector a row, orthonormal.
  public var right: Matrix<Scalar>

  /// Decomposes a product through orthonormal bases of both factors and the small core between them.
  ///
  /// - Parameter factors: The pair, of finite elements; the result has `min(rank, out, in)` triplets.
  /// - Throws: `SurgeryError` with id `la.not-finite` and the index in the factor, or `la.not-converged`.
  /// - Complexity: O((*out* + *in*) · *rank*² + *rank*³) time; memory for three copies of the factors.
  public init(_ factors: Factors<Scalar>) throws(SurgeryError) {
    _ = try finiteSquares(of: factors.up.elements.span, at: 0)
    _ = try finiteSquares(of: factors.down.elements.span, at: 0)
    let outer = try Self.reduced(factors.up.transposed())
    let inner = try Self.reduced(factors.down)
    // up = (factor · basis)' and down = factor · basis, so the core is factor' · factor.
    let core = try singularTriplets(product(outer.factor, inner.factor, transposeFirst: true))
    left = product(core.left, outer.basis, transposeFirst: true)
    singularValues = core.values.map { Double($0) }
    right = product(core.right, inner.basis)
  }

  /// All singular values of the product: beyond its rank they are zero.
  public var spectrum: Spectrum {
    let count = min(left.columns, right.columns)
    return Spectrum(
      values: singularValues.prefix(count)
        + [Double](repeating: 0, count: max(0, count - singularValues.count)),
      rows: left.columns, columns: right.columns)
  }

  /// The best factors of a rank, balanced: `up = U sqrt(S)`, `down = sqrt(S) V'`.
  ///
  /// - Parameter rank: The rank wanted; what lies beyond the product's own is zero.
  /// - Returns: The pair.
  public func factors(rank: Int) -> Factors<Scalar> {
    let roots = singularValues.prefix(rank).map { Scalar($0.squareRoot()) }
    var down = right.prefix(rank)
    var up = left.prefix(rank)
    for (row, root) in roots.enumerated() {
      for column in 0..<down.columns { down[row, column] *= root }
      for column in 0..<up.columns { up[row, column] *= root }
    }
    return Factors(
      up: up.padded(toRows: rank).transposed(), down: down.padded(toRows: rank))
  }

  /// `matrix = factor · basis` with orthonormal rows in the basis, no more than the matrix is wide.
  private static func reduced(_ matrix: Matrix<Scalar>) throws(SurgeryError)
    -> (basis: Matrix<Scalar>, factor: Matrix<Scalar>)
  {
    if matrix.rows <= matrix.columns { return try orthonormalRows(matrix) }
    var identity = Matrix<Scalar>(rows: matrix.columns, columns: matrix.columns)
    for i in 0..<matrix.columns { identity[i, i] = 1 }
    return (identity, matrix)
  }
}
