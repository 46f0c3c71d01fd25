import LinearAlgebra
import Tensors

/// Factors of a matrix that is read in blocks, stored, with what they leave of it.
struct FactoredMatrix: Sendable {
  var pair: FactorSpool.Pair
  var rank: Int
  var squaredNorm: Double
  var squaredResidual: Double
}

/// Finds the best factors of a matrix, in double precision.
struct DeltaFactoring: Sendable {
  let spool: FactorSpool
  /// The rank where the rule has no policy.
  let defaultRank: Int

  /// The energy that may be missing, relative to what the best factors leave: small enough for single precision.
  private static let accuracy = 1e-10

  /// Factors a matrix.
  ///
  /// - Returns: The factors; `nil` where the rule gives the rank 0.
  /// - Throws: What reading, decomposing and storing throw.
  func factor<Source: BlockedMatrix>(
    _ matrix: inout Source, rule: RankRule, like dtype: DType
  ) throws(SurgeryError) -> FactoredMatrix? where Source.Scalar == Double {
    let (found, squaredNorm) = try leadingRows(of: &matrix, rule)
    guard found.rows > 0 else { return nil }
    let dtype = spool.storageDType(like: dtype)
    var rounding = Rounding<Double>(to: dtype)
    var down = found
    try down.withElements { (values) throws(SurgeryError) in try rounding.round(&values) }
    try rounding.checkOverflow(allowed: spool.allowOverflow)
    let fitted = try fit(&matrix, down: down, squaredNorm: squaredNorm) {
      (up) throws(SurgeryError) in try rounding.round(&up)
    }
    try rounding.checkOverflow(allowed: spool.allowOverflow)
    return FactoredMatrix(
      pair: try spool.store(Factors(up: fitted.up, down: down), like: dtype), rank: down.rows,
      squaredNorm: squaredNorm, squaredResidual: fitted.squaredResidual)
  }

  /// The complete spectrum of a matrix, for a budget.
  static func spectrum<Source: BlockedMatrix>(
    of matrix: inout Source
  ) throws(SurgeryError) -> Spectrum where Source.Scalar == Double {
    let exact = try exactDecomposition(of: &matrix, rank: 0)
    return Spectrum(
      values: exact.singularValues, rows: matrix.rows, columns: matrix.columns)
  }

  /// Balanced rows `sqrt(S) V'` of the rank that the rule gives.
  private func leadingRows<Source: BlockedMatrix>(
    of matrix: inout Source, _ rule: RankRule
  ) throws(SurgeryError) -> (Matrix<Double>, squaredNorm: Double) where Source.Scalar == Double {
    let shorter = min(matrix.rows, matrix.columns)
    let policy = rule.policy ?? .fixed(defaultRank)
    let bounds = min(rule.bounds.lowerBound, shorter)...min(rule.bounds.upperBound, shorter)
    if let target = policy.searchTarget(within: bounds) {
      var options = SubspaceOptions()
      options.accuracy = Self.accuracy
      let found = try leadingSubspace(of: &matrix, target: target, options: options)
      // A fixed rank is promised even where the matrix has less.
      if case .rank(let rank) = target {
        return (found.balancedDown(rank: rank), found.squaredNorm)
      }
      return (found.balancedDown(), found.squaredNorm)
    }
    let exact = try exactDecomposition(of: &matrix, rank: bounds.upperBound)
    let spectrum = Spectrum(
      values: exact.singularValues, rows: matrix.rows, columns: matrix.columns)
    var rows = exact.right.prefix(
      RankRule(policy, within: bounds).rank(for: spectrum, orElse: defaultRank))
    for row in 0..<rows.rows {
      let root = exact.singularValues[row].squareRoot()
      for column in 0..<rows.columns { rows[row, column] *= root }
    }
    return (rows, exact.squaredNorm)
  }
}
