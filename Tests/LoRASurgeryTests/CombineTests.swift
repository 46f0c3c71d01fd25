import Adapters
import LinearAlgebra
import LoRASurgery
import Tensors
import Testing

struct CombineTests {
  private static func request(
    _ names: [String], _ weights: [Double], _ method: CombineRequest.Method, to output: String,
    _ set: (inout CombineRequest) -> Void = { _ in }
  ) -> CombineRequest {
    var request = CombineRequest(
      adapters: zip(names, weights).map { WeightedAdapter(CombineFixtures.path($0), weight: $1) },
      output: output, method: method)
    set(&request)
    return request
  }

  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var adapters = ["a", "b"]
    var weights = [0.7, 0.4]
    var method: CombineRequest.Method
    var density: Double?
    var rank: Int?
    var sign = CombineRequest.MajoritySign.total
    var testDescription: String { name }
  }

  static let cases = [
    Case(name: "cat", weights: [1, -0.5], method: .concat),
    Case(name: "cat_wide", adapters: ["a", "wide"], weights: [1, 0.5], method: .concat),
    Case(name: "linear", weights: [0.7, -0.4], method: .linear),
    Case(name: "svd", weights: [0.6, 0.8], method: .svd),
    Case(name: "svd_wide", adapters: ["a", "wide"], weights: [0.6, 0.8], method: .svd, rank: 2),
    Case(name: "ties", method: .ties, density: 0.5),
    Case(name: "ties_frequency", method: .ties, density: 0.5, sign: .frequency),
    Case(name: "magnitude_prune", method: .magnitudePrune, density: 0.3),
    Case(name: "ties_svd", method: .tiesSVD, density: 0.5),
    Case(name: "magnitude_prune_svd", method: .magnitudePruneSVD, density: 0.3),
  ]

  @Test(arguments: cases) func theResultIsThatOfPEFT(_ example: Case) throws {
    let folder = try TemporaryFolder()
    let request = Self.request(
      example.adapters, example.weights, example.method, to: folder("out")
    ) {
      $0.density = example.density
      $0.majoritySign = example.sign
      $0.ranks.rank = example.rank
    }
    let report = try request.run()
    let expected = try CombineFixtures.deltas(example.name)
    let found = try deltas(of: folder("out"))
    #expect(Set(found.keys) == Set(expected.keys))
    for (module, delta) in found {
      #expect(relativeDistance(delta.elements, expected[module] ?? []) < 2e-6)
    }
    #expect(report.modules.count == expected.count)
    #expect(folder.contents == ["out"])
  }

  @Test func aSumByConcatIsExact() throws {
    let folder = try TemporaryFolder()
    let report = try Self.request(["a", "wide"], [1, -0.5], .concat, to: folder("out")) {
      $0.dtype = .f64
    }.run()
    let (a, wide) = (
      try deltas(of: CombineFixtures.path("a")), try deltas(of: CombineFixtures.path("wide"))
    )
    let found = try deltas(of: folder("out"))
    let first = try #require(found["first"])
    for index in first.elements.indices {
      let sum = (a["first"]?.elements[index] ?? 0) - 0.5 * (wide["first"]?.elements[index] ?? 0)
      #expect(abs(first.elements[index] - sum) < 1e-14)
    }
    #expect(found["second"] == a["second"])
    #expect(report.modules.first { $0.tensor == "first.weight" }?.rank == 8)
    #expect((report.totals.capturedEnergy ?? 0) > 1 - 1e-12)
  }

  @Test func whatIsDroppedDependsOnTheSeedAlone() throws {
    let folder = try TemporaryFolder()
    for (name, seed, jobs) in [("one", 7, 1), ("two", 7, 3), ("three", 8, 1)] {
      _ = try Self.request(["a", "b"], [1, 1], .dareTies, to: folder(name)) {
        $0.density = 0.5
        $0.seed = UInt64(seed)
      }.run(Execution(jobs: jobs))
    }
    let (one, two) = (try tensorBytes(folder("one")), try tensorBytes(folder("two")))
    #expect(one == two)
    #expect(try tensorBytes(folder("three")) != one)
  }

  @Test func dareScalesWhatItKeeps() throws {
    let folder = try TemporaryFolder()
    _ = try Self.request(["b"], [1], .dareLinear, to: folder("out")) { $0.density = 0.25 }.run()
    let kept = try TestModels.values(
      "base_model.model.first.lora_A.weight", in: folder("out"))
    let own = try TestModels.values(
      "base_model.model.first.lora_A.weight", in: CombineFixtures.path("b"))
    for (value, original) in zip(kept, own) {
      #expect(value == 0 || abs(value - 4 * original) < 1e-6 * abs(value))
    }
    #expect(kept.contains(0) && kept.contains { $0 != 0 })
  }

  @Test(arguments: [CombineRequest.Method.svd, .concat, .tiesSVD])
  func aBudgetIsSpentOverAllModules(_ method: CombineRequest.Method) throws {
    let folder = try TemporaryFolder()
    let report = try Self.request(["a", "b"], [1, 1], method, to: folder("out")) {
      $0.density = 0.5
      $0.ranks.budget = .share(0.25)
    }.run()
    #expect((1...(2 * 312 / 4)).contains(report.totals.parameters ?? 0))
  }

  @Test func combinationsThatMakeNoSenseAreRefusedAndLeaveNothing() throws {
    let folder = try TemporaryFolder()
    let cases: [(String, [String], CombineRequest.Method, (inout CombineRequest) -> Void)] = [
      ("combine.ranks", ["a", "wide"], .linear, { _ in }),
      ("combine.density", ["a", "b"], .ties, { _ in }),
      ("combine.density", ["a", "b"], .dareTies, { $0.density = 0 }),
      ("combine.density", ["a", "b"], .dareTies, { $0.density = .nan }),
      ("combine.weight", ["a", "b"], .concat, { $0.adapters[1].weight = .infinity }),
      ("combine.adapters", [], .concat, { _ in }),
      ("combine.rank", ["a", "b"], .linear, { $0.ranks.rank = 2 }),
      ("rank.budget", ["a", "b"], .svd, { $0.ranks.budget = .bytes(4) }),
      ("rank.range", ["a", "b"], .svd, { $0.ranks.rank = 0 }),
    ]
    for (id, names, method, set) in cases {
      let request = Self.request(
        names, [Double](repeating: 1, count: names.count), method, to: folder("out"), set)
      #expect(surgeryError { _ = try request.run() }?.id == id)
    }
    #expect(folder.contents.isEmpty)
  }
}
