import LinearAlgebra
import Tensors
import Testing

/// Ranks that reach beyond what stands out, where no gap ends what is wanted, against LAPACK in float64.
@Suite struct FlatTailTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var values: [Double]
    var noise: Double
    var rank: Int
    var testDescription: String { name }
  }

  static let cases: [Case] = [
    Case(name: "planted on noise", values: decay(0.7, 24), noise: 2e-3, rank: 48),
    Case(name: "faint planted on noise", values: decay(0.7, 24), noise: 2e-2, rank: 40),
    Case(name: "noise alone", values: [], noise: 1, rank: 48),
    Case(name: "slow decay", values: decay(0.2, 300), noise: 0, rank: 44),
    Case(
      name: "huge ones on noise", values: [1e4, 3e3, 1e3] + decay(1, 20), noise: 1e-2, rank: 40),
  ]

  static func decay(_ exponent: Double, _ count: Int) -> [Double] {
    (1...count).map { power(Double($0), -exponent) }
  }

  @Test(arguments: cases, [[560, 400], [380, 900]])
  func isSearchedWithinTheAccuracy(_ test: Case, shape: [Int]) throws {
    var random = TestRandom(UInt64(shape[0] + test.rank))
    let matrix = random.matrix(shape[0], shape[1], values: test.values, noise: test.noise)
    let truth = try trueValues(matrix)
    try check(matrix, truth, test, rounding: 1e-12)
    try check(matrix.converted(to: Float.self), truth, test, rounding: 1e-6)
  }

  private func check<Scalar>(
    _ matrix: Matrix<Scalar>, _ truth: [Double], _ test: Case, rounding: Double
  ) throws {
    try check(matrix, truth, test, rounding: rounding, searchedShare: 1.0 / 3, .search)
    try check(matrix, truth, test, rounding: rounding, searchedShare: 1.0 / 12, .exact)
  }

  private func check<Scalar>(
    _ matrix: Matrix<Scalar>, _ truth: [Double], _ test: Case, rounding: Double,
    searchedShare: Double, _ method: LeadingSubspace<Scalar>.Method
  ) throws {
    var options = SubspaceOptions()
    options.exactOperations = 0
    options.searchedShare = searchedShare
    var source = CountingBlocks(matrix: matrix, rowsPerBlock: 48)
    let found = try leadingSubspace(of: &source, target: .rank(test.rank), options: options)
    #expect(found.method == method)
    #expect(found.rank == test.rank)
    let best = energy(truth.prefix(test.rank))
    let residual = energy(truth.dropFirst(test.rank))
    let missing = best - capturedEnergy(matrix, by: found.right)
    let slack = rounding * (best + residual)
    #expect(missing <= 1e-4 * residual + slack)
    #expect(missing <= found.missingEnergy + slack)
    #expect(deviationFromOrthonormal(found.right) < 1e-5)
    for (value, true_) in zip(found.singularValues, truth) {
      #expect(
        abs(value - true_) < (method == .exact ? 1e-3 : 2e-2) * true_ + 1e-6 * truth[0])
    }
  }

  /// Directions that are not there are not made up.
  @Test(arguments: [[560, 400], [380, 900]])
  func aLowerRankThanWantedIsFound(shape: [Int]) throws {
    var random = TestRandom(8)
    var matrix = random.matrix(shape[0], shape[1], values: Self.decay(0.5, 30))
      .converted(to: Float.self)
    let found = try leadingSubspace(of: &matrix, target: .rank(48))
    let norm = energy(matrix.elements.map(Double.init))
    #expect(found.rank >= 30)
    #expect(norm - capturedEnergy(matrix, by: found.right) < 1e-10 * norm)
  }

  @Test func aResidualWithinTheTailIsMet() throws {
    var random = TestRandom(9)
    var matrix = random.matrix(560, 400, values: Self.decay(0.7, 24), noise: 5e-3)
      .converted(to: Float.self)
    let truth = try trueValues(matrix)
    let total = energy(truth)
    let fraction = energy(truth.dropFirst(60)) / total
    let found = try leadingSubspace(of: &matrix, target: .residual(atMost: fraction))
    #expect(60...61 ~= found.rank)
    let left = total - capturedEnergy(matrix, by: found.right)
    #expect(left <= fraction * total * (1 + 1e-4))
  }

  /// Most of all directions, where a search would never pay: what a decomposition in float32 leaves is as little.
  @Test(arguments: [[560, 400], [380, 900]])
  func mostDirectionsAreDecomposed(shape: [Int]) throws {
    var random = TestRandom(UInt64(shape[1]))
    let matrix = random.matrix(
      shape[0], shape[1], values: Self.decay(0.7, 24), noise: 2e-3
    ).converted(to: Float.self)
    let truth = try trueValues(matrix)
    for rank in [90, 330] {
      let residual = energy(truth.dropFirst(rank))
      let fraction = residual / energy(truth) * (1 + 1e-5)
      for target in [SubspaceTarget.rank(rank), .residual(atMost: fraction)] {
        var source = CountingBlocks(matrix: matrix, rowsPerBlock: 288)
        let found = try leadingSubspace(of: &source, target: target)
        #expect(found.method == .exact)
        #expect(rank...rank + 1 ~= found.rank)
        let best = energy(truth.prefix(found.rank))
        #expect(best - capturedEnergy(matrix, by: found.right) <= 1e-4 * residual)
        #expect(deviationFromOrthonormal(found.right) < 1e-5)
        var again = CountingBlocks(matrix: matrix, rowsPerBlock: 576)
        #expect(try leadingSubspace(of: &again, target: target).right == found.right)
      }
    }
  }
}
