/// The factor pair of a low-rank update: `delta = up · down`.
public struct Factors<Scalar: BLASScalar>: Sendable {
  /// `out x rank`, also called B.
  public var up: Matrix<Scalar>
  /// `rank x in`, also called A.
  public var down: Matrix<Scalar>

  /// Pairs two factors; inner dimensions that differ are a programming error.
  public init(up: Matrix<Scalar>, down: Matrix<Scalar>) {
    precondition(up.columns == down.rows, "ranks \(up.columns) and \(down.rows) differ")
    self.up = up
    self.down = down
  }

  /// The number of columns of `up`, and of rows of `down`.
  public var rank: Int { down.rows }

  /// The product `up · down`, `out x in`.
  public func delta() -> Matrix<Scalar> { product(up, down) }
}

extension LeadingSubspace {
  /// The balanced `down` factor `sqrt(S) V'`.
  ///
  /// Round it to the storage type, then fit `up` to the rounded factor with ``fit(_:down:squaredNorm:round:)``.
  ///
  /// - Parameter rank: The number of rows; those beyond the subspace's rank are zero. By default its rank.
  /// - Returns: `rank x columns`.
  public func balancedDown(rank: Int? = nil) -> Matrix<Scalar> {
    let width = right.columns
    var elements = right.elements
    for (row, value) in singularValues.prefix(right.rows).enumerated() {
      scale(&elements, row * width..<(row + 1) * width, by: Scalar(value.squareRoot()))
    }
    let down = Matrix(rows: right.rows, columns: width, elements: elements)
    guard let rank else { return down }
    return down.prefix(rank).padded(toRows: rank)
  }
}

extension Matrix {
  /// This matrix with rows of zeros below its own.
  func padded(toRows count: Int) -> Matrix {
    guard count > rows else { return self }
    return appending(Matrix(rows: count - rows, columns: columns))
  }
}
