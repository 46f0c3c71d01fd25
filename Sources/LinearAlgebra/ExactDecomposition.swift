public import Tensors

/// Which LAPACK route decomposes a matrix exactly.
public enum ExactRoute: Sendable, Hashable {
  /// The Gram matrix of the shorter side in float64, and its eigenvalues.
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
///   side, 8 *s*² and some rows, and 16 *s*² more where vectors are wanted; `gesdd` about 4 elements for each of the matrix.
public func exactDecomposition<Source: BlockedMatrix>(
  of matrix: inout Source, rank: Int, route: ExactRoute? = nil
) throws(SurgeryError) -> ExactDecomposition<Source.Scalar> {
  try decomposition(of: &matrix, route: route, rank == 0 ? nil : { _, _ in rank })
}

/// How many right vectors are wanted, given all singular values and the squared norm.
private typealias RankOfValues = (_ values: [Double], _ squaredNorm: Double) -> Int

// No rank stands for no vectors at all, which spares most of the memory.
private func decomposition<Source: BlockedMatrix>(
  of matrix: inout Source, route: ExactRoute?, _ rank: RankOfValues?
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
  _ matrix: inout Source, _ rank: RankOfValues?, _ route: ExactRoute
) throws(SurgeryError) -> ExactDecomposition<Source.Scalar> {
  switch route {
  case .gram: try decomposeGram(&matrix, rank)
  case .singularValues: try decomposeWhole(&matrix, rank)
  }
}

/// `D'D = V S² V'`, or `D D' = U S² U'` and `V' = S⁻¹ U' D`; only blocks of D lie in memory.
private func decomposeGram<Source: BlockedMatrix>(
  _ matrix: inout Source, _ rank: RankOfValues?
) throws(SurgeryError) -> ExactDecomposition<Source.Scalar> {
  let energy = try squaredNorm(of: &matrix)
  var gram = try ShorterGram<Double>(of: &matrix, scale: 1)
  let form = try TridiagonalForm(of: &gram.matrix)
  let roots = { (squares: [Double]) in squares.map { max(0, $0).squareRoot() } }
  var result = ExactDecomposition<Source.Scalar>(
    right: Matrix(rows: 0, columns: matrix.columns), singularValues: [], squaredNorm: energy,
    route: .gram, fellBack: false, passes: gram.passes + 1)
  guard let rank else {
    result.singularValues = roots(try form.values())
    return result
  }
  let pairs = try form.pairs { squares in
    let values = roots(squares)
    return min(rank(values, energy), significantCount(values, Source.Scalar.self))
  }
  result.singularValues = roots(pairs.values)
  result.right = try gram.rightVectors(for: pairs.vectors, of: &matrix, scale: 1)
    .converted(to: Source.Scalar.self)
  if gram.isOfRows { result.passes += 1 }
  return result
}

private func decomposeWhole<Source: BlockedMatrix>(_ matrix: inout Source, _ rank: RankOfValues?)
  throws(SurgeryError) -> ExactDecomposition<Source.Scalar>
{
  let (whole, energy) = try collect(&matrix, as: Source.Scalar.self)
  let triplets = try singularTriplets(whole)
  let values = triplets.values.map { Double($0) }
  let wanted = rank?(values, energy) ?? 0
  return ExactDecomposition(
    right: triplets.right.prefix(min(wanted, significantCount(values, Source.Scalar.self))),
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
  let bound = min(target.largestRank, matrix.rows, matrix.columns)
  let exact = try decomposition(of: &matrix, route: nil) { values, energy in
    min(bound, target.rank(for: values.map { $0 * $0 }, energy: energy) ?? bound)
  }
  let right = exact.right
  return LeadingSubspace(
    right: right, singularValues: Array(exact.singularValues.prefix(right.rows)),
    squaredNorm: exact.squaredNorm, missingEnergy: 0, passes: exact.passes, method: .exact)
}
