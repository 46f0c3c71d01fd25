internal import Tensors

/// What one Rayleigh-Ritz projection says about a search: how far it is, and where to go on.
struct RitzState<Scalar: BLASScalar> {
  private let basis: RitzBasis<Scalar>
  private let values: [Double]
  private let vectors: Matrix<Scalar>
  private let residuals: Matrix<Scalar>
  private let squaredResiduals: [Double]
  private let wanted: Int
  private let tolerance: Double
  private let edge: Double
  /// Whether the basis already holds as many directions as the target needs.
  let isRankKnown: Bool
  /// Whether the rounding of the products may hide more energy than the tolerance, or makes the tolerance itself,
  /// which comes from a difference, unreliable.
  let isLostInRounding: Bool
  /// An estimate, from above, of the energy that the wanted directions still miss after the free step, if no direction
  /// of more energy than the first unwanted one is still unknown.
  let bound: Double
  /// The bound, corrected by how far the one before was above the truth.
  let missing: Double

  /// Evaluates a basis.
  ///
  /// - Parameters:
  ///   - basis: The basis.
  ///   - pairs: Its eigenpairs.
  ///   - problem: What is wanted, of what.
  ///   - forecast: What the step before had forecast.
  init(
    basis: RitzBasis<Scalar>, pairs: Eigenpairs<Double>, problem: RitzProblem,
    forecast: Forecast<Scalar>?
  ) {
    self.basis = basis
    values = pairs.values
    let (energy, largest) = (problem.energy, pairs.values[0])
    let known = problem.target.rank(for: pairs.values, energy: energy)
    isRankKnown = known != nil
    let faintest = problem.resolution * problem.resolution * largest
    let significant = pairs.values.prefix { $0 > faintest }.count
    wanted = min(known ?? pairs.values.count, significant)
    let evaluated = min(pairs.values.count, known == nil ? .max : wanted + max(8, wanted / 2))
    let (vectors, residuals) = basis.ritzVectors(pairs, count: evaluated)
    self.vectors = vectors
    self.residuals = residuals
    let width = basis.columns
    let floor = residualFloor(largest, Scalar.self)
    let span = residuals.elements.span
    squaredResiduals = (0..<evaluated).map {
      max(0, sumOfSquares(span.extracting($0 * width..<($0 + 1) * width)) - floor * floor)
    }
    let captured = pairs.values.prefix(wanted).reduce(0, +)
    let left = energy - captured
    tolerance = problem.tolerance(left: left)
    isLostInRounding =
      isRankKnown
      && problem.isLostInRounding(pairs.values.prefix(wanted), left: left, Scalar.self)
    edge = wanted < pairs.values.count ? pairs.values[wanted] : 0
    let shift = edge * shiftFraction
    // The first unwanted Ritz value is a bound from below, and a poor one as long as few unwanted directions have been
    // searched: the free step gets credit only as if there were no gap.
    let last = wanted > 0 ? pairs.values[wanted - 1] : 0
    var (gains, bound) = (0.0, 0.0)
    for j in 0..<wanted {
      let half = (pairs.values[j] - edge) / 2
      let gain = (half * half + squaredResiduals[j]).squareRoot() - half
      let divisor = pairs.values[j] - shift
      let left = max(last - shift, shift) / divisor
      gains += gain
      bound += squaredResiduals[j] < divisor * divisor ? gain * min(1, left * left) : gain
    }
    self.bound = bound
    guard let forecast, forecast.vectors.rows == wanted, forecast.bound > 0 else {
      missing = gains
      return
    }
    // What the free step of the reading before really missed shows now, in the larger basis.
    let missed = max(0, captured - basis.capturedEnergy(by: forecast.vectors))
    missing = bound * min(1, max(leastTrust, safety * missed / forecast.bound))
  }

  /// The vectors that the free step would give now, and the bound for what they miss.
  func forecast() throws(SurgeryError) -> Forecast<Scalar> {
    Forecast(vectors: try steppedVectors(), bound: bound)
  }

  private func steppedVectors() throws(SurgeryError) -> Matrix<Scalar> {
    try basis.freeStep(
      towards: residuals.prefix(wanted), shift: edge * shiftFraction, keeping: wanted)
  }

  var isConverged: Bool { isRankKnown && missing <= tolerance }

  /// Where the search goes on: the directions in which the Ritz vectors are expected to move most.
  func nextDirections(block: Int) throws(SurgeryError) -> Matrix<Scalar> {
    guard isRankKnown else { return try basis.complement(of: residuals) }
    let width = basis.columns
    var weighted = residuals.elements
    for row in 0..<residuals.rows {
      let gap = max(values[row] - edge / 2, edge / 2)
      let weight = (row < wanted ? 1 : 0.5) / max(gap, .leastNormalMagnitude).squareRoot()
      scale(&weighted, row * width..<(row + 1) * width, by: Scalar(weight))
    }
    let candidates = Matrix(rows: residuals.rows, columns: width, elements: weighted)
    let pairs = try symmetricEigenpairs(rowProducts(candidates))
    // The eigenvalues are the gains to expect; what is left out must be little enough for the free step.
    var left = pairs.values.reduce(0, +)
    var count = 0
    while count < min(block, pairs.values.count), left > leftToTheStep * tolerance || count % 8 != 0
    {
      left -= pairs.values[count]
      count += 1
    }
    let chosen = pairs.vectors.prefix(max(count, min(8, pairs.values.count)))
    return try basis.complement(of: product(chosen.converted(to: Scalar.self), candidates))
  }

  /// The wanted vectors, moved by the step that costs no reading.
  func found() throws(SurgeryError) -> FoundDirections<Scalar> {
    FoundDirections(
      vectors: try steppedVectors(), values: Array(values.prefix(wanted)), missing: missing)
  }
}

/// What a search looks for.
struct RitzProblem {
  var target: SubspaceTarget
  /// The energy that may be missing, relative to the energy left behind.
  var accuracy: Double
  /// The squared norm of the matrix.
  var energy: Double
  /// The rounding unit of the elements: directions fainter than it, relative to the strongest, are noise.
  var resolution: Double

  /// The energy that may be missing where this much is left behind.
  func tolerance(left: Double) -> Double {
    max(accuracy * left, 16 * resolution * resolution * energy)
  }

  /// Whether the rounding of products in a precision may hide more energy than the tolerance, or makes the tolerance itself,
  /// which comes from a difference, unreliable.
  func isLostInRounding<Scalar: BLASScalar>(
    _ wanted: ArraySlice<Double>, left: Double, _: Scalar.Type
  ) -> Bool {
    hiddenEnergy(wanted, Scalar.self) > tolerance(left: left)
      || left < 1024 * Double(Scalar.ulpOfOne) * energy
  }

  /// The energy that the rounding of products in a precision may hide from directions with these squared singular values.
  func hiddenEnergy<Scalar: BLASScalar>(_ wanted: ArraySlice<Double>, _: Scalar.Type) -> Double {
    let floor = residualFloor(wanted.first ?? 0, Scalar.self)
    return wanted.reduce(0) { $0 + floor * floor / $1 }
  }

  /// The rank that the target may need if what lies beyond these squared singular values is like the last of them.
  func expectedRank(after values: [Double]) -> Int {
    if let known = target.rank(for: values, energy: energy) { return known }
    guard case .residual(let fraction, _, let maximum) = target else { return values.count }
    let lacking = (1 - fraction) * energy - values.reduce(0, +)
    let more = lacking / max(values.last ?? 0, .leastNormalMagnitude)
    return min(maximum, values.count + Int(min(max(0, more), 1e9)))
  }
}

/// The length below which a residual is the rounding of the products, not a direction.
private func residualFloor<Scalar: BLASScalar>(_ largest: Double, _: Scalar.Type) -> Double {
  Double(Scalar.ulpOfOne) * 8 * largest
}

/// What a search expects of the next reading, to be held against it.
struct Forecast<Scalar: BLASScalar> {
  var vectors: Matrix<Scalar>
  var bound: Double
}

/// The free step recovers most of a gain: all but less than one part of this many.
private let leftToTheStep = 40.0

/// How much less conservative than the bound before it a bound may be.
///
/// Nothing proves this. Over the spectra of `AccuracyTests`, with four seeds, the truth stayed below what is estimated with it
/// but for pure noise at rank 1, where 4 of 96 searches missed up to 1.7 times as much.
private let safety = 4.0

/// What a forecast that came out almost exact lets a bound be lowered to, as a fraction: it may have done so by chance.
private let leastTrust = 0.05

/// The free step assumes that what the Ritz vectors lack lies in directions of this fraction of the first unwanted Ritz
/// value: between noise, 0, and the first unwanted direction itself, 1.
private let shiftFraction = 0.3
