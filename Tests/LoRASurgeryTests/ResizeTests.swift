import Adapters
import LinearAlgebra
import LoRASurgery
import Tensors
import Testing

struct ResizeTests {
  private static func run(
    _ output: String, _ set: (inout ResizeRequest) -> Void
  ) throws -> OperationReport {
    var request = ResizeRequest(
      adapter: CombineFixtures.path("a"), output: output, ranks: RankOptions())
    set(&request)
    return try request.run()
  }

  @Test func everyRankIsTheBestOfItsKind() throws {
    let original = try deltas(of: CombineFixtures.path("a"))
    for rank in 1...3 {
      let folder = try TemporaryFolder()
      let report = try Self.run(folder("out")) { $0.ranks.rank = rank }
      let found = try deltas(of: folder("out"))
      for (module, delta) in original {
        var dense = delta
        // LAPACK's values of the change itself are the truth.
        let exact = try exactDecomposition(of: &dense, rank: 0, route: .singularValues)
        let least = exact.singularValues.dropFirst(rank).reduce(0) { $0 + $1 * $1 }.squareRoot()
        let norm = exact.squaredNorm.squareRoot()
        let left = relativeDistance(try #require(found[module]).elements, delta.elements) * norm
        #expect(left <= least * 1.000001 + 2e-7 * norm)
        let entry = try #require(report.modules.first { $0.tensor.text == "\(module).weight" })
        #expect(abs((entry.residualNorm ?? -1) - left) < 1e-12 * norm)
        #expect(abs((entry.deltaNorm ?? -1) - norm) < 1e-12 * norm)
        #expect(entry.rank == rank)
      }
      #expect(folder.contents == ["out"])
    }
  }

  @Test func factorsAreBalancedAndTheScaleIsOne() throws {
    let folder = try TemporaryFolder()
    _ = try Self.run(folder("out")) { $0.ranks.rank = 2 }
    for module in try Adapter(opening: folder("out")).modules {
      #expect(module.scale == 1)
      let pair = try #require(module.update as? LowRank)
      var (up, down) = (try pair.up.matrix(of: Double.self), try pair.down.matrix(of: Double.self))
      let (one, other) = (try squaredNorm(of: &up), try squaredNorm(of: &down))
      #expect(abs(one / other - 1) < 1e-5)
    }
  }

  @Test func aLargerRankIsPaddedAndTheChangeStays() throws {
    let folder = try TemporaryFolder()
    let report = try Self.run(folder("out")) { $0.ranks.rank = 6 }
    #expect(report.modules.allSatisfy { $0.rank == 6 })
    let (before, after) = (
      try deltas(of: CombineFixtures.path("a")), try deltas(of: folder("out"))
    )
    for (module, delta) in before {
      #expect(relativeDistance(after[module]?.elements ?? [], delta.elements) < 1e-6)
    }
  }

  @Test func dynamicRulesTakeTheSmallestRankThatSuffices() throws {
    let folder = try TemporaryFolder()
    let report = try Self.run(folder("out")) { $0.ranks.svFro = 0.9 }
    for (module, delta) in try deltas(of: CombineFixtures.path("a")) {
      var dense = delta
      let exact = try exactDecomposition(of: &dense, rank: 0, route: .singularValues)
      var (sum, least) = (0.0, 0)
      for value in exact.singularValues where sum < 0.81 * exact.squaredNorm {
        sum += value * value
        least += 1
      }
      #expect(report.modules.first { $0.tensor.text == "\(module).weight" }?.rank == least)
    }
  }

  @Test func whatWasMeasuredOfOtherFactorsIsForgotten() throws {
    let folder = try TemporaryFolder()
    var adapter = try Adapter(opening: CombineFixtures.path("a"))
    for index in adapter.modules.indices {
      adapter.modules[index].extraction = ExtractionFacts(deltaNorm: 2, residualNorm: 1)
    }
    try adapter.plan(
      to: folder("a.lra"), options: AdapterWritingOptions(dialect: .compact, format: .compact)
    ).write(replacing: false, inputs: [], Execution())
    #expect(
      try Adapter(opening: folder("a.lra")).modules.allSatisfy {
        $0.extraction?.residualNorm == 1
      })
    _ = try Self.run(folder("b.lra")) {
      $0.adapter = folder("a.lra")
      $0.ranks.rank = 1
    }
    #expect(try Adapter(opening: folder("b.lra")).modules.allSatisfy { $0.extraction == nil })
  }

  @Test func aBudgetBoundsTheFactorsAndDropsWhatItDoesNotPayFor() throws {
    let folder = try TemporaryFolder()
    let report = try Self.run(folder("out")) { $0.ranks.budget = .bytes(4 * 70) }
    #expect((report.totals.parameters ?? .max) <= 70)
    #expect(report.modules.contains { $0.action == .skipped && $0.rank == 0 })
    #expect(try Adapter(opening: folder("out")).modules.count < 3)
  }

  @Test func convolutionsHaveARankOfTheirOwn() throws {
    let folder = try TemporaryFolder()
    let report = try Self.run(folder("out")) {
      $0.ranks.rank = 2
      $0.ranks.convRank = 1
    }
    for entry in report.modules {
      #expect(entry.rank == (entry.tensor == "conv.weight" ? 1 : 2))
    }
  }

  @Test func wishesThatMakeNoSenseAreRefusedAndLeaveNothing() throws {
    let folder = try TemporaryFolder()
    #expect(surgeryError { _ = try Self.run(folder("out")) { _ in } }?.id == "rank.missing")
    #expect(
      surgeryError { _ = try Self.run(folder("out")) { $0.ranks.rank = 0 } }?.id == "rank.range")
    #expect(
      surgeryError { _ = try Self.run(folder("out")) { $0.ranks.budget = .bytes(8) } }?.id
        == "rank.budget")
    let values = [Double](repeating: 0.5, count: 12)
    try TestModels.write(
      [TestTensor(name: "lora_unet_a.diff", shape: [3, 4], values: values)],
      to: folder("full.safetensors"))
    let nothing = surgeryError {
      _ = try Self.run(folder("out")) {
        $0.adapter = folder("full.safetensors")
        $0.ranks.rank = 1
      }
    }
    #expect(nothing?.id == "resize.nothing")
    #expect(folder.contents == ["full.safetensors"])
  }
}
