public import Tensors

/// How many singular directions of a matrix are wanted.
public enum SubspaceTarget: Sendable, Hashable {
  /// This many, or all that the matrix has.
  case rank(Int)
  /// As many as leave at most `residual` of the squared norm behind, within the bounds.
  ///
  /// `residual` is a fraction of the squared Frobenius norm: an energy of 0.95 is a residual of 0.05, a relative
  /// error of 0.1 one of 0.01.
  case residual(atMost: Double, minimumRank: Int = 1, maximumRank: Int = .max)
}

extension SubspaceTarget {
  /// The most directions that may be wanted.
  var largestRank: Int {
    switch self {
    case .rank(let rank): rank
    case .residual(_, _, let maximum): maximum
    }
  }

  /// The rank that the target needs, or `nil` if these values, in descending order, do not reach it.
  func rank(for values: [Double], energy: Double) -> Int? {
    switch self {
    case .rank(let rank): return rank
    case .residual(let fraction, let minimum, let maximum):
      var left = energy
      for (index, value) in values.enumerated() {
        if left <= fraction * energy || index == maximum { return max(index, minimum) }
        left -= value
      }
      return left <= fraction * energy ? max(values.count, minimum) : nil
    }
  }
}

/// How the search for leading subspaces proceeds.
public struct SubspaceOptions: Sendable, Hashable {
  /// The energy that may be missing to the best subspace, relative to the energy that the best one leaves behind.
  ///
  /// What the rounding of the elements themselves hides, some 1e-13 of the squared norm in float32, may be missing too.
  public var accuracy = 1e-4
  /// Readings of the matrix after which the search goes over to the Gram matrix of its shorter side.
  public var maximumPasses = 24
  /// The seed of the random numbers; the same seed gives the same bits.
  public var seed: UInt64 = 0x10_5A
  /// The most elements of the sketch that the search begins with.
  public var sketchElements = 4 << 20

  /// Multiplications in float64 that a decomposition may take without a search being tried first.
  ///
  /// The default takes about 10 ms: matrices up to 256 x 256 or 200 x 2000 are decomposed at once.
  public var exactOperations = 2e8
  /// The most directions of the shorter side, as a fraction, that its Gram matrix is searched for; where more are wanted, it is
  /// decomposed.
  ///
  /// By the default both take about as long, from a side of 2,000 to one of 8,000.
  public var searchedShare = 1.0 / 12

  /// The defaults.
  public init() {}
}

/// The leading right singular vectors of a matrix, and how good they are.
public struct LeadingSubspace<Scalar: BLASScalar>: Sendable {
  /// The way that led to a result.
  public enum Method: Sendable, Hashable {
    /// The blocked search stopped by its own rule.
    case search
    /// The matrix is so small, or the rank so large, that decomposing it, or its Gram matrix, was cheaper.
    case exact
    /// The search could not reach the accuracy.
    case exactAfterSearch
  }

  /// Orthonormal right vectors, one a row, by descending singular value; fewer than wanted where the matrix has
  /// less rank.
  public var right: Matrix<Scalar>
  /// The singular values that belong to them.
  public var singularValues: [Double]
  /// The squared Frobenius norm of the matrix, accumulated in float64.
  public var squaredNorm: Double
  /// The energy (squared norm) by which the best subspace of this rank is estimated to exceed this one; where the
  /// matrix was decomposed, 0 or what rounding may hide.
  ///
  /// Not a bound. It assumes that the start directions, which are random, were orthogonal to no leading
  /// direction. Of a search by readings it further assumes that a forecast is off by at most four times as much as the one
  /// before it; of one in the Gram matrix, that the captured energy goes on growing by ever smaller steps, as a geometric
  /// series of twice its last terms. Over the spectra and shapes of the tests the truth stays below it or below 1e-6 of the
  /// norm.
  public var missingEnergy: Double
  /// How often the matrix was read.
  public var passes: Int
  /// How the result came about.
  public var method: Method

  /// The number of vectors.
  public var rank: Int { right.rows }
}

extension LeadingSubspace {
  /// A part of a subspace that was found before, such as its first vectors.
  ///
  /// - Parameters:
  ///   - right: Orthonormal right vectors, one a row, by descending singular value.
  ///   - singularValues: The singular values that belong to them.
  ///   - squaredNorm: The squared Frobenius norm of the matrix.
  public init(right: Matrix<Scalar>, singularValues: [Double], squaredNorm: Double) {
    self.init(
      right: right, singularValues: singularValues, squaredNorm: squaredNorm, missingEnergy: 0,
      passes: 0, method: .search)
  }
}

/// Finds the leading right singular vectors of a matrix that is read in blocks.
///
/// A block Krylov method with Rayleigh-Ritz projection (Golub & Underwood 1977; Musco & Musco 2015,
/// arXiv:1504.05477), started from a random sketch (Halko, Martinsson & Tropp 2011, doi:10.1137/090771806). One
/// reading applies `D` and its transpose to all new directions. It stops when the residuals of the Ritz vectors, and
/// what they had foretold at the reading before, say that the captured energy cannot grow by more than the accuracy
/// asked for; that is an estimate, see ``LeadingSubspace/missingEnergy``. Where many directions are wanted, or readings have
/// cost as much, the Gram matrix of the shorter side is formed and searched by subspace iteration with a Chebyshev filter
/// (Zhou & Saad 2006, doi:10.1016/j.jcp.2006.03.017), which stops by the growth of the captured energy and so needs no gap behind
/// the wanted directions. Where little is left behind, as of a nearly exact low rank, the rounding of float32 products hides
/// directions: the search then goes on in float64. Small matrices are decomposed, and so is the Gram matrix where more than
/// one in twelve of all directions are wanted: in the precision of the elements where its rounding hides less than the accuracy,
/// else in float64. Deterministic for given matrix, target and options; runs on the calling thread alone.
///
/// - Parameters:
///   - matrix: The matrix, of at least one element.
///   - target: The rank, or the residual to stay within.
///   - options: Accuracy, limits and seed.
/// - Returns: The subspace; of rank 0 for a matrix of zeros.
/// - Throws: `SurgeryError` with id `la.not-finite` and the element's index, or what reading throws.
/// - Complexity: Per reading O(*rows* · *columns* · *rank*) time. Memory for about 3 *rank* vectors each of
///   `2 * columns + rows` elements, and the sketch; or for the Gram matrix and about 8 *rank* vectors of its size; or, where it is
///   decomposed, for three Gram matrices.
public func leadingSubspace<Source: BlockedMatrix>(
  of matrix: inout Source, target: SubspaceTarget, options: SubspaceOptions = SubspaceOptions()
) throws(SurgeryError) -> LeadingSubspace<Source.Scalar> {
  precondition(matrix.rows > 0 && matrix.columns > 0, "the matrix has no elements")
  var search = SubspaceSearch(target: target, options: options)
  return try search.run(&matrix)
}
