public import Tensors

extension Factors<Double> {
  /// The pair with `up` multiplied.
  ///
  /// - Parameter factor: What the product is multiplied by.
  /// - Returns: The pair.
  public func scaled(by factor: Double) -> Self {
    factor == 1
      ? self
      : Factors(
        up: Matrix(
          rows: up.rows, columns: up.columns, elements: up.elements.map { $0 * factor }),
        down: down)
  }

  /// The factors of a taller matrix, zero outside some rows.
  ///
  /// - Parameters:
  ///   - row: Where the rows of this product begin.
  ///   - rows: The height of the taller matrix.
  /// - Returns: The pair.
  public func placed(at row: Int, of rows: Int) -> Self {
    if row == 0, up.rows == rows { return self }
    var taller = [Double](repeating: 0, count: rows * rank)
    taller.replaceSubrange(row * rank..<(row + up.rows) * rank, with: up.elements)
    return Factors(up: Matrix(rows: rows, columns: rank, elements: taller), down: down)
  }

  /// The pair whose product is the sum of the products of all; the ranks add up.
  ///
  /// - Parameter pairs: Factors of matrices of one shape.
  /// - Returns: The pair; `nil` for none.
  public static func sum(of pairs: [Self]) -> Self? {
    guard let first = pairs.first else { return nil }
    let rank = pairs.reduce(0) { $0 + $1.rank }
    var up: [Double] = []
    up.reserveCapacity(first.up.rows * rank)
    for row in 0..<first.up.rows {
      for pair in pairs {
        up += pair.up.elements[(row * pair.rank)..<((row + 1) * pair.rank)]
      }
    }
    return Factors(
      up: Matrix(rows: first.up.rows, columns: rank, elements: up),
      down: Matrix(stacking: pairs.map(\.down)))
  }

  /// The squared Frobenius norm of the product, from the product's singular values: no cancellation.
  ///
  /// - Throws: `la.not-finite` or `la.not-converged`.
  /// - Complexity: That of ``ProductSVD``.
  public func squaredNorm() throws(SurgeryError) -> Double {
    try ProductSVD(self).singularValues.reversed().reduce(0) { $0 + $1 * $1 }
  }

  /// The squared Frobenius norm of the difference of two products.
  ///
  /// - Parameter other: Factors of a matrix of the same shape.
  /// - Returns: The squared norm.
  /// - Throws: `la.not-finite` or `la.not-converged`.
  /// - Complexity: That of ``ProductSVD`` for the sum of both ranks.
  public func squaredDistance(to other: Self) throws(SurgeryError) -> Double {
    try Self.sum(of: [self, other.scaled(by: -1)])?.squaredNorm() ?? 0
  }
}

extension Factors {
  /// Whether all elements of both factors are finite.
  fileprivate var isFinite: Bool {
    firstNonFinite(up.elements.span) == nil && firstNonFinite(down.elements.span) == nil
  }
}

// The same for stacks of matrices, of which each has its own factors.

extension [Factors<Double>] {
  /// The decompositions of the products.
  ///
  /// - Throws: `la.not-finite` or `la.not-converged`.
  public func decomposed() throws(SurgeryError) -> [ProductSVD<Double>] {
    try map { (factors) throws(SurgeryError) in try ProductSVD(factors) }
  }

  /// The sum of the squared Frobenius norms of the products.
  ///
  /// - Throws: `la.not-finite` or `la.not-converged`.
  public func squaredNorm() throws(SurgeryError) -> Double {
    var sum = 0.0
    for factors in self { sum += try factors.squaredNorm() }
    return sum
  }

  /// The sum of the squared Frobenius norms of what rounding left of the products.
  ///
  /// - Parameter rounded: The factors as they are stored; where rounding made one infinite, nothing of its product is captured.
  /// - Returns: The sum.
  /// - Throws: `la.not-finite` where own elements are not finite, or `la.not-converged`.
  public func squaredResidual(of rounded: Self) throws(SurgeryError) -> Double {
    var sum = 0.0
    for (own, rounded) in zip(self, rounded) {
      sum += try rounded.isFinite ? own.squaredDistance(to: rounded) : own.squaredNorm()
    }
    return sum
  }
}

extension [ProductSVD<Double>] {
  /// The spectrum for the one rank that all matrices get.
  public var spectrum: Spectrum {
    count == 1 ? self[0].spectrum : Spectrum(together: map(\.spectrum))
  }
}
