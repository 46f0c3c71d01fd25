import LinearAlgebra
import LoRASurgery
import Tensors
import Testing

struct RanksTests {
  private func rule(
    of name: TensorName = "a.weight", kernel: [Int] = [], _ set: (inout RankOptions) -> Void
  ) throws -> RankRule {
    var options = RankOptions()
    set(&options)
    return try options.choice().rule(for: name, kernel: kernel)
  }

  @Test func aRankHoldsForLinearAndOneByOneKernelsAndTheConvRankForLargerOnes() throws {
    let set: (inout RankOptions) -> Void = {
      $0.rank = 8
      $0.convRank = 4
    }
    #expect(try rule(set).policy == .fixed(8))
    #expect(try rule(kernel: [1, 1], set).policy == .fixed(8))
    #expect(try rule(kernel: [3, 3], set).policy == .fixed(4))
    #expect(try rule(kernel: [3]) { $0.convRank = 2 }.policy == .fixed(2))
    #expect(try rule { $0.convRank = 2 }.policy == nil)
  }

  @Test func aConvRankBoundsARuleThatReadsSpectra() throws {
    let set: (inout RankOptions) -> Void = {
      $0.svFro = 0.9
      $0.convRank = 4
      $0.maxRank = 16
    }
    #expect(try rule(kernel: [3, 3], set) == RankRule(.svFro(0.9), within: 1...4))
    #expect(try rule(set) == RankRule(.svFro(0.9), within: 1...16))
  }

  @Test func theFirstNameThatMatchesWins() throws {
    let set: (inout RankOptions) -> Void = {
      $0.energy = 0.9
      $0.rankFor = [.init(pattern: "q_proj", rank: 3), .init(pattern: "proj", rank: 0)]
    }
    #expect(try rule(of: "l.q_proj.weight", set) == RankRule(.fixed(3), within: 3...3))
    #expect(try rule(of: "l.k_proj.weight", set) == RankRule(.fixed(0), within: 0...0))
    #expect(try rule(of: "l.norm.weight", set).policy == .energy(0.9))
  }

  @Test func valuesThatMakeNoSenseAreRefused() {
    let cases: [(String, (inout RankOptions) -> Void)] = [
      ("rank.range", { $0.rank = 0 }), ("rank.range", { $0.convRank = -1 }),
      ("rank.range", { $0.energy = 1.5 }), ("rank.range", { $0.energy = .nan }),
      ("rank.range", { $0.maxError = 1 }), ("rank.range", { $0.svRatio = 0.5 }),
      ("rank.range", { $0.svFro = 0 }), ("rank.range", { $0.budget = .bytes(0) }),
      (
        "rank.range",
        {
          $0.minRank = 8
          $0.maxRank = 4
        }
      ),
      (
        "rank.conflict",
        {
          $0.rank = 8
          $0.energy = 0.9
        }
      ),
      (
        "rank.conflict",
        {
          $0.noiseFloor = true
          $0.budget = .share(0.1)
        }
      ),
      ("usage.regex", { $0.rankFor = [.init(pattern: "(", rank: 1)] }),
    ]
    for (id, set) in cases {
      var options = RankOptions()
      set(&options)
      #expect(surgeryError { _ = try options.choice() }?.id == id)
    }
    #expect(surgeryError { _ = try RankOptions().choice(isRequired: true) }?.id == "rank.missing")
  }

  @Test func textsAreReadAsWritten() throws {
    #expect(try RankOptions.Budget("30MB") == .bytes(30_000_000))
    #expect(try RankOptions.Budget("4KiB") == .bytes(4096))
    #expect(try RankOptions.Budget("2.5%") == .share(0.025))
    let named = try RankOptions.NamedRank("a=b=4")
    #expect(named == .init(pattern: "a=b", rank: 4))
    for text in ["", "0%", "101%", "-3", "MB"] {
      #expect(surgeryError { _ = try RankOptions.Budget(text) }?.id == "rank.range")
    }
    for text in ["=3", "a", "a=-1", "a=x"] {
      #expect(surgeryError { _ = try RankOptions.NamedRank(text) }?.id == "rank.range")
    }
  }

  @Test func aBudgetPaysForFixedRanksFirst() throws {
    let spectrum = Spectrum(values: [4, 2, 1], rows: 3, columns: 7)
    let items = [
      RankAllocation.Item(
        spectrum: spectrum, rule: RankRule(.fixed(3), within: 3...3), dtype: .f32, defaultRank: 1),
      RankAllocation.Item(spectrum: spectrum, rule: RankRule(nil), dtype: .f32, defaultRank: 1),
    ]
    #expect(try RankAllocation(items, budget: .bytes(200), parameters: 0).ranks == [3, 2])
    #expect(try RankAllocation(items, budget: .share(0.5), parameters: 80).ranks == [3, 1])
    #expect(try RankAllocation(items, budget: nil, parameters: 0).ranks == [3, 1])
    #expect(
      surgeryError { _ = try RankAllocation(items, budget: .bytes(120), parameters: 0) }?.id
        == "rank.budget")
  }
}
