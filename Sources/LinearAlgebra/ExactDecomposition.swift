public import Tensors

/// Which LAPACK route decomposes a matrix exactly.
public enum ExactRoute: Sendable, Hashable {
  /// The Gram matrix of the shorter side in float64, and its eigenvalues by `dsyevd`.
  case gram
  /// The singular value decomposition by `gesdd`; the matrix lies in memory whole.
  case singularValues
}

/// All singular values of a matrix and its leading right vectors, by LAPACK.
public struct ExactDecomposition<Scalar: BLASScalar>: Sendable {
  /// Orthonormal right vectors, one a row, as many as were asked for and the numerical rank allows.
  public var right: Matrix<Scalar>
  /// All `min(rows, columns)` singular values, descending.
  public var singularValues: [Double]
  /// The squared Frobenius norm, accumulated in float64.
  public var squaredNorm: Double
  /// The route that was taken.
  public var route: ExactRoute
  /// Whether the route asked for did not converge and the other one was taken.
  public var fellBack: Bool
  /// How often the matrix was read.
  public var passes: Int
}

/// Decomposes a matrix by LAPACK.
///
/// The Gram matrix tells singular values apart down to 1e-8 of the largest, more than float32 elements hold, and is
/// the cheaper route; for float64 elements the default is `gesdd`.
///
/// - Parameters:
///   - matrix: The matrix, of at least one element.
///   - rank: The number of right vectors wanted.
///   - route: The route, or `nil` for the one that suits the precision.
/// - Returns: The decomposition.
/// - Throws: `SurgeryError` with id `la.not-finite` and the element's index, `la.not-converged` when no route
///   converges, or what reading throws.
/// - Complexity: O(*rows* · *columns* · min(*rows*, *columns*)) time. Memory in bytes: Gram, with *s* the shorter
///   side, 24 *s*², and 8 · *rows* · *columns* more if there are fewer rows than columns; `gesdd` about
///   4 elements for each of the matrix.
public func exactDecomposition<Source: BlockedMatrix>(
  of matrix: inout Source, rank: Int, route: ExactRoute? = nil
) throws(SurgeryError) -> ExactDecomposition<Source.Scalar> {
  precondition(matrix.rows > 0 && matrix.columns > 0, "the matrix has no elements")
  let asked = route ?? (Source.Scalar.self == Float.self ? .gram : .singularValues)
  let other: ExactRoute = asked == .gram ? .singularValues : .gram
  var result: ExactDecomposition<Source.Scalar>
  do {
    result = try decompose(&matrix, rank, asked)
  } catch  where error.id == "la.not-converged" {
    result = try decompose(&matrix, rank, other)
    result.fellBack = true
    result.passes += 1
  }
  if result.squaredNorm == 0 { try refuseVanishedSquares(of: &matrix) }
  return result
}

private func decompose<Source: BlockedMatrix>(
  _ matrix: inout Source, _ rank: Int, _ route: ExactRoute
) throws(SurgeryError) -> ExactDecomposition<Source.Scalar> {
  switch route {
  case .gram where matrix.rows >= matrix.columns: try decomposeTall(&matrix, rank)
  case .gram: try decomposeWide(&matrix, rank)
  case .singularValues: try decomposeWhole(&matrix, rank)
  }
}

/// `D'D = V S² V'`, one reading; rows are blocks, so nothing else lies in memory.
private func decomposeTall<Source: BlockedMatrix>(_ matrix: inout Source, _ rank: Int)
  throws(SurgeryError) -> ExactDecomposition<Source.Scalar>
{
  let width = matrix.columns
  var gram = [Double](repeating: 0, count: width * width)
  var energy = 0.0
  try matrix.forEachChunk { (first, rows, chunk) throws(SurgeryError) in
    energy += try finiteSquares(of: chunk, at: first * width)
    let wide = convert(chunk, to: Double.self)
    multiply(
      wide.span, transposed: true, wide.span, transposed: false, m: width, n: width, inner: rows,
      beta: 1, into: &gram)
  }
  let pairs = try symmetricEigenpairs(Matrix(rows: width, columns: width, elements: gram))
  let values = pairs.values.map { max(0, $0).squareRoot() }
  let count = min(rank, significantCount(values, Source.Scalar.self))
  return ExactDecomposition(
    right: pairs.vectors.prefix(count).converted(to: Source.Scalar.self), singularValues: values,
    squaredNorm: energy, route: .gram, fellBack: false, passes: 1)
}

/// `D D' = U S² U'`, then `V' = S⁻¹ U' D`; D is held in float64, which its short side keeps small.
private func decomposeWide<Source: BlockedMatrix>(_ matrix: inout Source, _ rank: Int)
  throws(SurgeryError) -> ExactDecomposition<Source.Scalar>
{
  let (whole, energy) = try collect(&matrix, as: Double.self)
  let pairs = try symmetricEigenpairs(product(whole, whole, transposeSecond: true))
  let values = pairs.values.map { max(0, $0).squareRoot() }
  let count = min(rank, significantCount(values, Source.Scalar.self))
  let right = product(pairs.vectors.prefix(count), whole)
  return ExactDecomposition(
    // The rows are orthogonal but for rounding, which matters where singular values are small.
    right: try orthonormalRows(normalisedRows(right)).basis.converted(to: Source.Scalar.self),
    singularValues: values, squaredNorm: energy, route: .gram, fellBack: false, passes: 1)
}

private func decomposeWhole<Source: BlockedMatrix>(_ matrix: inout Source, _ rank: Int)
  throws(SurgeryError) -> ExactDecomposition<Source.Scalar>
{
  let (whole, energy) = try collect(&matrix, as: Source.Scalar.self)
  let triplets = try singularTriplets(whole)
  let values = triplets.values.map { Double($0) }
  return ExactDecomposition(
    right: triplets.right.prefix(min(rank, significantCount(values, Source.Scalar.self))),
    singularValues: values, squaredNorm: energy, route: .singularValues, fellBack: false,
    passes: 1)
}

private func collect<Source: BlockedMatrix, Scalar: BLASScalar>(
  _ matrix: inout Source, as: Scalar.Type
) throws(SurgeryError) -> (Matrix<Scalar>, energy: Double) {
  let width = matrix.columns
  var energy = 0.0
  var elements: [Scalar] = []
  elements.reserveCapacity(matrix.rows * width)
  try matrix.forEachChunk { (first, _, chunk) throws(SurgeryError) in
    energy += try finiteSquares(of: chunk, at: first * width)
    elements += convert(chunk, to: Scalar.self)
  }
  return (Matrix(rows: matrix.rows, columns: width, elements: elements), energy)
}

/// How many of the descending values stand out from the rounding of the elements.
private func significantCount<Scalar: BLASScalar>(_ values: [Double], _: Scalar.Type) -> Int {
  guard let largest = values.first, largest > 0 else { return 0 }
  // The Gram matrix itself resolves no more than the square root of float64's precision.
  let floor = max(Double(Scalar.ulpOfOne), 1e-8) * largest
  return values.prefix { $0 > floor }.count
}

/// Finds the leading right singular vectors through an exact decomposition.
///
/// - Parameters:
///   - matrix: The matrix, of at least one element.
///   - target: The rank, or the residual to stay within.
/// - Returns: The subspace; of rank 0 for a matrix of zeros.
/// - Throws: As ``exactDecomposition(of:rank:route:)``.
/// - Complexity: As ``exactDecomposition(of:rank:route:)``.
public func exactSubspace<Source: BlockedMatrix>(
  of matrix: inout Source, target: SubspaceTarget
) throws(SurgeryError) -> LeadingSubspace<Source.Scalar> {
  let shorter = min(matrix.rows, matrix.columns)
  let bound: Int
  switch target {
  case .rank(let rank): bound = min(rank, shorter)
  case .residual(_, _, let maximum): bound = min(maximum, shorter)
  }
  let exact = try exactDecomposition(of: &matrix, rank: bound)
  let squares = exact.singularValues.map { $0 * $0 }
  let rank = target.rank(for: squares, energy: exact.squaredNorm) ?? bound
  let right = exact.right.prefix(rank)
  return LeadingSubspace(
    right: right, singularValues: Array(exact.singularValues.prefix(right.rows)),
    squaredNorm: exact.squaredNorm, missingEnergy: 0, passes: exact.passes, method: .exact)
}
