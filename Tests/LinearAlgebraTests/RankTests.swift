import LinearAlgebra
import Tensors
import Testing

@Suite struct RankTests {
  /// Squares 16, 9, 4, 1: the sum is 30, the sum of the values 10.
  static let four = Spectrum(values: [4, 3, 2, 1], rows: 4, columns: 6)

  static let choices: [(RankPolicy, Int)] = [
    (RankPolicy.fixed(3), 3), (.fixed(9), 4),
    (.energy(16.0 / 30), 1), (.energy(0.54), 2), (.energy(29.0 / 30), 3), (.energy(1), 4),
    (.maximumError((14.0 / 30).squareRoot() + 1e-12), 1), (.maximumError(0.2), 3),
    (.maximumError(0), 4), (.maximumError(1), 0),
    (.svRatio(2), 2), (.svRatio(2.01), 3), (.svRatio(100), 4),
    (.svFro(0.9), 2), (.svFro(0.92), 3), (.svFro(1), 4),
    (.svCumulative(0.4), 1), (.svCumulative(0.41), 2), (.svCumulative(0.7), 2),
    (.svCumulative(0.95), 4),
  ]

  @Test(arguments: choices)
  func leastRankThatMeetsTheRule(policy: RankPolicy, rank: Int) {
    #expect(policy.rank(for: Self.four) == rank)
  }

  @Test func boundsHold() {
    #expect(RankPolicy.energy(0.5).rank(for: Self.four, within: 2...3) == 2)
    #expect(RankPolicy.energy(1).rank(for: Self.four, within: 2...3) == 3)
    #expect(RankPolicy.fixed(1).rank(for: Self.four, within: 8...9) == 4)
  }

  @Test func partialSpectraAnswerOnlyWhatTheyKnow() {
    let part = Spectrum(values: [4, 3], totalEnergy: 30, rows: 4, columns: 6)
    #expect(!part.isComplete)
    #expect(RankPolicy.energy(0.8).rank(for: part) == 2)
    #expect(RankPolicy.energy(0.9).rank(for: part) == nil)
    #expect(RankPolicy.energy(0.9).rank(for: part, within: 0...2) == 2)
    #expect(RankPolicy.svRatio(2).rank(for: part) == nil)
    #expect(RankPolicy.svRatio(1.1).rank(for: part) == 1)
    #expect(RankPolicy.svCumulative(0.4).rank(for: part) == nil)
    #expect(RankPolicy.noiseFloor.rank(for: part) == nil)
    #expect(RankPolicy.maximumError(0.5).rank(for: part) == 2)
    #expect(RankPolicy.maximumError(0.1).rank(for: part) == nil)
    #expect(part.effectiveRank == nil)
  }

  @Test func summaryNumbers() throws {
    #expect(Self.four.totalEnergy == 30)
    #expect(Self.four.energy(rank: 2) == 25)
    #expect(abs(Self.four.relativeError(rank: 2) - (5.0 / 30).squareRoot()) < 1e-15)
    #expect(Self.four.stableRank == 30.0 / 16)
    // exp(0.4 ln 2.5 + 0.3 ln 3.333 + 0.2 ln 5 + 0.1 ln 10)
    #expect(abs(try #require(Self.four.effectiveRank) - 3.596) < 1e-3)
    let flat = Spectrum(values: [2, 2, 2], rows: 3, columns: 3)
    #expect(abs(try #require(flat.effectiveRank) - 3) < 1e-12)
    #expect(flat.stableRank == 3)
    let zero = Spectrum(values: [0, 0], rows: 2, columns: 2)
    #expect(zero.stableRank == 0 && zero.effectiveRank == 0 && zero.relativeError(rank: 0) == 0)
  }

  /// Values printed by Gavish & Donoho: λ(1) = 4/√3, ω(1) ≈ 2.858, and their cubic for ω.
  @Test(arguments: [0.05, 0.2, 0.5, 0.8, 1.0])
  func thresholdsOfThePaper(aspect: Double) {
    #expect(abs(NoiseFloor.coefficient(aspect: 1) - 4 / 3.0.squareRoot()) < 1e-12)
    #expect(abs(NoiseFloor.medianFactor(aspect: 1) - 2.8582) < 2e-4)
    let cubic =
      0.56 * aspect * aspect * aspect - 0.95 * aspect * aspect + 1.82 * aspect + 1.43
    #expect(abs(NoiseFloor.medianFactor(aspect: aspect) - cubic) < 0.02)
  }

  @Test func noiseFloorFindsThePlantedRank() throws {
    var random = TestRandom(13)
    let sigma = 0.01
    var matrix = random.matrix(160, 120, values: [3, 2, 1, 0.6], noise: sigma)
    let exact = try exactDecomposition(of: &matrix, rank: 0)
    let spectrum = Spectrum(values: exact.singularValues, rows: 160, columns: 120)
    #expect(RankPolicy.noiseFloor.rank(for: spectrum) == 4)
    // λ σ √n is about 0.28, 0.7 and 28 for these.
    for (known, rank) in [(sigma, 4), (0.025, 3), (1, 0)] {
      let noisy = Spectrum(
        values: exact.singularValues, rows: 160, columns: 120, elementNoise: known)
      #expect(RankPolicy.noiseFloor.rank(for: noisy) == rank)
    }
  }

  @Test(arguments: 1...20)
  func budgetIsOptimalForWhatItSpends(seed: Int) throws {
    var random = TestRandom(UInt64(seed))
    let items = (0..<3).map { _ in
      RankBudget.Item(
        spectrum: Spectrum(
          values: (0..<4).map { _ in random.unit() }.sorted(by: >), rows: 4, columns: 5),
        costPerRank: 1 + Int(random.unit() * 4))
    }
    let limit = 6 + Int(random.unit() * 12)
    let budget = try RankBudget(limit, over: items)
    #expect(budget.cost <= limit)
    #expect(budget.cost == zip(items, budget.ranks).reduce(0) { $0 + $1.0.costPerRank * $1.1 })
    func kept(_ ranks: [Int]) -> Double {
      zip(items, ranks).reduce(0) { $0 + $1.0.spectrum.energy(rank: $1.1) }
    }
    var best = 0.0
    for a in 0...4 {
      for b in 0...4 {
        for c in 0...4 {
          let cost = zip(items, [a, b, c]).reduce(0) { $0 + $1.0.costPerRank * $1.1 }
          if cost <= limit { best = max(best, kept([a, b, c])) }
        }
      }
    }
    // A knapsack's greedy solution misses less than the one value that no longer fitted.
    let equalCosts = Set(items.map(\.costPerRank)).count == 1
    let gap = best - kept(budget.ranks)
    #expect(gap < (equalCosts ? 1e-12 : 1))
    let left = limit - budget.cost
    for (item, rank) in zip(items, budget.ranks) where rank < 4 {
      #expect(item.costPerRank > left)
    }
  }

  @Test func equalCostsGiveTheGlobalCut() throws {
    let items = [[5.0, 1, 0.5], [4, 3, 2], [2, 2, 1]].map {
      RankBudget.Item(spectrum: Spectrum(values: $0, rows: 3, columns: 3), costPerRank: 6)
    }
    #expect(try RankBudget(24, over: items).ranks == [1, 3, 0])
    #expect(try RankBudget(30, over: items).ranks == [1, 3, 1])
    #expect(try RankBudget(1000, over: items).ranks == [3, 3, 3])
  }

  @Test func budgetRespectsBoundsAndRefusesTheImpossible() throws {
    let spectrum = Spectrum(values: [2, 1], totalEnergy: 6, rows: 3, columns: 3)
    let items = [
      RankBudget.Item(spectrum: spectrum, costPerRank: 5, bounds: 1...1),
      RankBudget.Item(spectrum: spectrum, costPerRank: 5),
    ]
    let budget = try RankBudget(100, over: items)
    #expect(budget.ranks == [1, 2])
    #expect(budget.exhausted == [1])
    #expect { try RankBudget(4, over: items) } throws: {
      ($0 as? SurgeryError)?.id == "rank.budget"
    }
    #expect { try RankBudget(4, over: [items[1]]) } throws: {
      ($0 as? SurgeryError)?.id == "rank.budget"
    }
  }
}
