internal import Tensors

/// The state of one search for a leading subspace.
struct SubspaceSearch {
  let target: SubspaceTarget
  let options: SubspaceOptions
  private var random: RandomSource
  private var passes = 0

  init(target: SubspaceTarget, options: SubspaceOptions) {
    self.target = target
    self.options = options
    random = RandomSource(seed: options.seed)
  }

  /// Directions added at first: the rank wanted, and some more to speed convergence up.
  private func firstBlock(_ shorter: Int) -> Int {
    switch target {
    case .rank(let asked):
      let rank = min(asked, shorter)
      return rank + min(32, max(8, rank / 2))
    case .residual(_, let minimum, let maximum):
      return min(max(24, min(minimum, shorter) + 8), min(maximum, shorter) + 8)
    }
  }

  mutating func run<Source: BlockedMatrix>(_ matrix: inout Source) throws(SurgeryError)
    -> LeadingSubspace<Source.Scalar>
  {
    let shorter = min(matrix.rows, matrix.columns)
    let block = firstBlock(shorter)
    if wantsAll(shorter) || isCheapToDecompose(matrix) {
      return try exact(&matrix, method: .exact)
    }
    let wantsGram = block * gramShare > shorter
    let group = wantsGram ? 0 : sketchGroup(matrix, block)
    let survey = try Survey(of: &matrix, group: group, random: &random)
    passes += 1
    guard survey.squaredNorm > 0 else {
      try refuseVanishedSquares(of: &matrix)
      return LeadingSubspace(
        right: Matrix(rows: 0, columns: matrix.columns), singularValues: [], squaredNorm: 0,
        missingEnergy: 0, passes: passes, method: .search)
    }
    let problem = RitzProblem(
      target: target, accuracy: options.accuracy,
      energy: survey.squaredNorm * survey.scale * survey.scale,
      resolution: Double(Source.Scalar.ulpOfOne))
    if wantsGram { return try throughGram(&matrix, survey, problem) }
    let directions = try start(survey.sketch, block: block)
    switch try iterate(&matrix, from: directions, problem, scale: survey.scale) {
    case .found(let found): return found.result(survey, passes: passes)
    case .lostInRounding(let vectors):
      let wider = try RitzBasis<Double>(columns: matrix.columns)
        .complement(of: vectors.converted(to: Double.self))
      if case .found(let found) = try iterate(&matrix, from: wider, problem, scale: survey.scale) {
        return found.result(survey, passes: passes)
      }
    case .exhausted: break
    }
    return try throughGram(&matrix, survey, problem)
  }

  /// Looks into the Gram matrix of the shorter side, in float64 where float32 does not do, and decomposes as the last resort.
  private mutating func throughGram<Source: BlockedMatrix>(
    _ matrix: inout Source, _ survey: Survey<Source.Scalar>, _ problem: RitzProblem
  ) throws(SurgeryError) -> LeadingSubspace<Source.Scalar> {
    do throws(SurgeryError) {
      switch try gramDirections(&matrix, survey, problem, Source.Scalar.self) {
      case .found(let found): return found.result(survey, passes: passes)
      case .lostInRounding where Source.Scalar.self != Double.self:
        if case .found(let found) = try gramDirections(&matrix, survey, problem, Double.self) {
          return found.result(survey, passes: passes)
        }
      case .lostInRounding, .exhausted: break
      }
    } catch  where error.id == "la.not-converged" {}
    return try exact(&matrix, method: .exactAfterSearch)
  }

  private mutating func gramDirections<Source: BlockedMatrix, Scalar: BLASScalar>(
    _ matrix: inout Source, _ survey: Survey<Source.Scalar>, _ problem: RitzProblem, _: Scalar.Type
  ) throws(SurgeryError) -> GramOutcome<Scalar> {
    var gram = try ShorterGram<Scalar>(of: &matrix, scale: survey.scale)
    passes += gram.passes
    let most = Int(options.searchedShare * Double(gram.matrix.rows))
    var outcome = try FilteredSearch(gram: gram.matrix, problem: problem, mostDirections: most)
      .run(&random)
    if case .exhausted = outcome { outcome = try problem.decompose(&gram.matrix) }
    guard gram.isOfRows, case .found(var found) = outcome else { return outcome }
    found.vectors = try gram.rightVectors(for: found.vectors, of: &matrix, scale: survey.scale)
    passes += 1
    return .found(found)
  }

  /// How an iteration ended.
  private enum Outcome<Scalar: BLASScalar> {
    case found(FoundDirections<Scalar>)
    /// The rounding of the products hides what is still missing; a wider precision goes on from these directions.
    case lostInRounding(Matrix<Scalar>)
    /// The readings allowed are used up, or have cost as much as the Gram matrix of the shorter side would.
    case exhausted
  }

  /// Adds blocks of directions to a basis until its leading Ritz vectors are accurate.
  private mutating func iterate<Source: BlockedMatrix, Scalar: BLASScalar>(
    _ matrix: inout Source, from start: Matrix<Scalar>, _ problem: RitzProblem, scale: Double
  ) throws(SurgeryError) -> Outcome<Scalar> {
    let shorter = min(matrix.rows, matrix.columns)
    let block = start.rows
    var basis = RitzBasis<Scalar>(columns: matrix.columns)
    var directions = start
    var forecast: Forecast<Scalar>?
    while passes < options.maximumPasses, directions.rows > 0 || basis.count > 0 {
      if directions.rows > 0 {
        let pass = try GramPass(over: &matrix, directions: directions, scale: scale)
        passes += 1
        basis.append(directions, pass)
      }
      let pairs = try basis.eigenpairs()
      let state = RitzState(basis: basis, pairs: pairs, problem: problem, forecast: forecast)
      if state.isLostInRounding, Scalar.self != Double.self {
        return .lostInRounding(basis.ritzVectors(pairs, count: block).vectors)
      }
      if state.isConverged || directions.rows == 0 { return .found(try state.found()) }
      let expected = problem.expectedRank(after: pairs.values)
      if !state.isRankKnown, expected * gramShare > shorter { break }
      forecast = state.isRankKnown ? try state.forecast() : nil
      directions = try state.nextDirections(block: block)
      if 4 * (basis.count + directions.rows) > shorter { break }
    }
    return .exhausted
  }

  private mutating func exact<Source: BlockedMatrix>(
    _ matrix: inout Source, method: LeadingSubspace<Source.Scalar>.Method
  ) throws(SurgeryError) -> LeadingSubspace<Source.Scalar> {
    var result = try exactSubspace(of: &matrix, target: target)
    result.passes += passes
    result.method = method
    return result
  }

  /// Whether every direction is wanted, down to the faintest, which only float64 tells apart.
  private func wantsAll(_ shorter: Int) -> Bool {
    if case .rank(let rank) = target { rank >= shorter } else { false }
  }

  /// Whether the Gram matrix of the shorter side and its eigenvalues cost next to nothing.
  private func isCheapToDecompose<Source: BlockedMatrix>(_ matrix: Source) -> Bool {
    let shorter = Double(min(matrix.rows, matrix.columns))
    let longer = Double(max(matrix.rows, matrix.columns))
    return shorter * shorter * (longer + 10 * shorter) < options.exactOperations
  }

  /// How many rows of the matrix make one of the sketch; 0 where a sketch would not pay.
  private func sketchGroup<Source: BlockedMatrix>(_ matrix: Source, _ block: Int) -> Int {
    let affordable = options.sketchElements / matrix.columns
    let group = max(
      4, matrix.rows / (24 * block), (matrix.rows + affordable - 1) / max(1, affordable))
    // Fewer rows than this tell little about the leading directions.
    return matrix.rows / group >= 6 * block ? group : 0
  }

  /// Start directions: random, or the leading ones of the sketch.
  private mutating func start<Scalar: BLASScalar>(_ sketch: Matrix<Scalar>, block: Int)
    throws(SurgeryError) -> Matrix<Scalar>
  {
    var sketch = sketch
    let width = sketch.columns
    var basis = RitzBasis<Scalar>(columns: width)
    let count = sketch.rows == 0 ? block : block * 2 / 3
    var directions = try basis.complement(
      of: random.matrix(rows: count, columns: width, of: Scalar.self))
    guard sketch.rows > 0 else { return directions }
    for _ in 1..<sketchPasses {
      let pass = try GramPass(over: &sketch, directions: directions, scale: 1)
      basis.append(directions, pass)
      directions = try basis.complement(of: pass.gram)
      if directions.rows == 0 { break }
    }
    let last = try GramPass(over: &sketch, directions: directions, scale: 1)
    basis.append(directions, last)
    return try basis.freeStep(towards: last.gram, shift: 0, keeping: block)
  }
}

/// Where a block holds more than one in this many directions of the shorter side, its Gram matrix is formed at once: two
/// blocks read cost nearly a third of it, and without a gap behind the wanted directions, as in the spectra of most fine-tunes,
/// four or more would be read.
private let gramShare = 28

/// Passes over the sketch: more would only resolve what the sketch has and the matrix has not.
private let sketchPasses = 4

/// What an iteration found, in its own precision and scale.
struct FoundDirections<Scalar: BLASScalar> {
  var vectors: Matrix<Scalar>
  var values: [Double]
  var missing: Double
  /// Whether they come from a decomposition, not a search.
  var isDecomposed = false

  func result<Element: BLASScalar>(_ survey: Survey<Element>, passes: Int)
    -> LeadingSubspace<Element>
  {
    LeadingSubspace(
      right: vectors.converted(to: Element.self),
      singularValues: values.map { $0.squareRoot() / survey.scale },
      squaredNorm: survey.squaredNorm, missingEnergy: missing / (survey.scale * survey.scale),
      passes: passes, method: isDecomposed ? .exact : .search)
  }
}
