internal import Tensors

/// The search for the leading eigenvectors of a Gram matrix that is known as a whole.
///
/// Subspace iteration with a Chebyshev filter (Zhou & Saad 2006, doi:10.1016/j.jcp.2006.03.017; Rutishauser 1970), in
/// blocks, so that nearly all of it is matrix products. It needs no gap behind the wanted directions: as with Krylov
/// methods, what the energy lacks falls geometrically whatever the gaps are (Musco & Musco 2015, arXiv:1504.05477), while
/// residuals of single vectors say next to nothing in a flat tail. It therefore stops by how much the captured energy has
/// grown from one projection to the next, and how fast that growth falls. What was captured is exact but for rounding; what
/// is still missing is an estimate, which nothing proves and `FlatTailTests` hold against LAPACK.
struct FilteredSearch<Scalar: BLASScalar> {
  let gram: Matrix<Scalar>
  let problem: RitzProblem
  /// The most directions to search for at a time; where more are wanted, computing all costs less.
  let mostDirections: Int

  /// Searches from random directions.
  ///
  /// - Throws: `la.not-converged` or `la.memory` from LAPACK.
  func run(_ random: inout RandomSource) throws(SurgeryError) -> GramOutcome<Scalar> {
    let size = gram.rows
    guard firstBlock <= mostDirections else { return .exhausted }
    let faintest = problem.faintest(in: gram)
    var vectors = try widened(Matrix(rows: 0, columns: size), to: firstBlock, &random)
    vectors = try orthonormalRows(product(vectors, gram)).basis
    var growth = Growth()
    for _ in 0..<maximumProjections {
      let ritz = try RitzBlock(vectors, gram)
      let known = problem.target.rank(for: ritz.values, energy: problem.energy)
      guard let known, block(for: known) <= vectors.rows else {
        let wanted = known.map(block(for:)) ?? 2 * vectors.rows
        let expected = block(for: problem.expectedRank(after: ritz.values))
        guard max(wanted, expected) <= mostDirections else { return .exhausted }
        vectors = try widened(ritz.vectors, to: wanted, &random)
        vectors = try orthonormalRows(product(vectors, gram)).basis
        growth = Growth()
        continue
      }
      let significant = ritz.values.prefix { $0 > faintest * ritz.values[0] }.count
      if significant < known { return .lostInRounding }
      let captured = ritz.values.prefix(known).reduce(0, +)
      let left = max(0, problem.energy - captured)
      if problem.isLostInRounding(ritz.values.prefix(known), left: left, Scalar.self) {
        return .lostInRounding
      }
      growth.add(captured, rank: known)
      if let missing = growth.missing, missing <= problem.tolerance(left: left) {
        return .found(
          FoundDirections(
            vectors: ritz.vectors.prefix(known), values: Array(ritz.values.prefix(known)),
            missing: missing))
      }
      // The first values say little about where the unwanted ones end.
      vectors = try ritz.filtered(by: gram, degree: growth.missing == nil ? 3 : 6)
    }
    return .exhausted
  }

  private var firstBlock: Int {
    switch problem.target {
    case .rank(let rank): min(gram.rows, block(for: rank))
    case .residual(_, let minimum, _): min(gram.rows, max(96, block(for: minimum)))
    }
  }

  /// Directions kept for a rank: those beyond it are where the filter ends.
  private func block(for rank: Int) -> Int { rank + max(16, rank * 3 / 8) }

  /// Orthonormal rows and as many random ones as make up the count.
  private func widened(
    _ vectors: Matrix<Scalar>, to count: Int, _ random: inout RandomSource
  ) throws(SurgeryError) -> Matrix<Scalar> {
    let more = random.matrix(
      rows: count - vectors.rows, columns: gram.columns, of: Scalar.self)
    return try orthonormalRows(vectors.appending(normalisedRows(more))).basis
  }
}

/// How looking for directions in a Gram matrix ended.
enum GramOutcome<Scalar: BLASScalar> {
  case found(FoundDirections<Scalar>)
  /// The rounding of the Gram matrix may hide what is still missing.
  case lostInRounding
  /// So many directions are wanted that all may as well be computed, or the growth would not end.
  case exhausted
}

/// How the captured energy of a rank grows from projection to projection.
private struct Growth {
  private var rank = 0
  private var captured = 0.0
  private var last: Double?
  /// An estimate of the energy still to be captured; `nil` before there are two projections.
  private(set) var missing: Double?

  mutating func add(_ energy: Double, rank: Int) {
    defer { captured = energy }
    guard rank == self.rank else {
      self = Growth()
      self.rank = rank
      return
    }
    let gained = max(0, energy - captured)
    // Growth that falls by a constant factor adds up to a geometric series. The slowest directions are left to the end, so
    // that the factor itself may rise.
    let factor = min(0.9, max(leastFactor, last.map { $0 > 0 ? gained / $0 : 0 } ?? firstFactor))
    missing = growthSafety * gained * factor / (1 - factor)
    last = gained
  }
}

/// What a projection of the Gram matrix on orthonormal directions gives.
private struct RitzBlock<Scalar: BLASScalar> {
  /// Descending.
  let values: [Double]
  /// One Ritz vector a row.
  let vectors: Matrix<Scalar>
  /// The Gram matrix times each.
  let images: Matrix<Scalar>

  init(_ directions: Matrix<Scalar>, _ gram: Matrix<Scalar>) throws(SurgeryError) {
    let products = product(directions, gram)
    let pairs = try symmetricEigenpairs(rowProducts(products, directions))
    let coefficients = pairs.vectors.converted(to: Scalar.self)
    values = pairs.values.map { max(0, $0) }
    vectors = product(coefficients, directions)
    images = product(coefficients, products)
  }

  /// Orthonormal directions in which what lies below the last Ritz value is damped.
  ///
  /// Directions far above it need no filter, and would drown the others in rounding if they were left in what the filter
  /// sees: they are multiplied once, which is enough for them, and taken out of the matrix for the others.
  func filtered(
    by gram: Matrix<Scalar>, degree: Int
  ) throws(SurgeryError) -> Matrix<Scalar> {
    let (count, width) = (vectors.rows, vectors.columns)
    let edge = max(values[count - 1], Double(Scalar.ulpOfOne) * values[0], .leastNormalMagnitude)
    let far = values.prefix { $0 > farAbove * edge }.count
    let farVectors = vectors.prefix(far)
    var farImages = farVectors.elements
    for row in 0..<far {
      scale(&farImages, row * width..<(row + 1) * width, by: Scalar(values[row]))
    }
    var before = vectors.dropFirst(far)
    var now = chebyshevStep(images.dropFirst(far), before, nil, edge: edge)
    for _ in 1..<degree {
      var multiplied = product(now, gram).elements
      let shares = product(now, farVectors, transposeSecond: true)
      multiply(
        shares.elements.span, transposed: false, farImages.span, transposed: false,
        m: now.rows, n: width, inner: far, alpha: -1, beta: 1, into: &multiplied)
      let next = chebyshevStep(
        Matrix(rows: now.rows, columns: width, elements: multiplied), now, before, edge: edge)
      (before, now) = levelled(now, next)
    }
    return try orthonormalRows(normalisedRows(images.prefix(far).appending(now))).basis
  }

  /// `T₁ = 2 G t₀ / edge - t₀`, `Tₖ₊₁ = 2 (2 G tₖ / edge - tₖ) - tₖ₋₁`.
  private func chebyshevStep(
    _ images: Matrix<Scalar>, _ now: Matrix<Scalar>, _ before: Matrix<Scalar>?, edge: Double
  ) -> Matrix<Scalar> {
    var result = images.elements
    let weight = before == nil ? 1.0 : 2.0
    scale(&result, 0..<result.count, by: Scalar(2 * weight / edge))
    add(-Scalar(weight), now.elements.span, 0, to: &result, 0, count: result.count)
    if let before { add(-1, before.elements.span, 0, to: &result, 0, count: result.count) }
    return Matrix(rows: now.rows, columns: now.columns, elements: result)
  }

  /// Both terms of a recurrence, each row of both divided by the length of the later one, so that nothing overflows.
  private func levelled(
    _ first: Matrix<Scalar>, _ second: Matrix<Scalar>
  ) -> (Matrix<Scalar>, Matrix<Scalar>) {
    let (rows, width) = (first.rows, first.columns)
    var (a, b) = (first.elements, second.elements)
    for row in 0..<rows {
      let range = row * width..<(row + 1) * width
      let length = sumOfSquares(b.span.extracting(range)).squareRoot()
      guard length > 0 else { continue }
      scale(&a, range, by: Scalar(1 / length))
      scale(&b, range, by: Scalar(1 / length))
    }
    return (
      Matrix(rows: rows, columns: width, elements: a),
      Matrix(rows: rows, columns: width, elements: b)
    )
  }
}

/// Ritz values this many times the last are far above it: a filter of degree 6 lifts them a million times already.
private let farAbove = 4.0

/// Projections after which a search gives up.
private let maximumProjections = 20

/// The factor by which growth is taken to fall before there are two of them to tell, and the least it is ever taken for.
private let firstFactor = 0.25
private let leastFactor = 0.1

/// How much more than the geometric series is taken to be missing.
private let growthSafety = 2.0
