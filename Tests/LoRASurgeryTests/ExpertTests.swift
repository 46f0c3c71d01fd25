import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

/// Extraction of experts that are stacked in one tensor, against PEFT's own formula and what PEFT merged
/// (fixtures/adapters/make_peft.py).
struct ExpertTests {
  /// A model with experts: what PEFT merged is the tuned one.
  struct Model {
    let base: String
    let tuned: String
    /// The module of the experts.
    let module: String
    /// Whether the class marks its experts as stored `in x out`.
    let isMarked: Bool

    init(_ fixture: String, module: String, isMarked: Bool = false) {
      let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("fixtures/adapters/peft/\(fixture)").path
      (base, tuned) = (folder + "/base", folder + "/merged.safetensors")
      self.module = module
      self.isMarked = isMarked
    }
  }

  static let models = [
    Model("lora-experts", module: "experts"),
    Model("experts-in-by-out", module: "model.layers.0.mlp.experts", isMarked: true),
    Model("experts-in-by-out-unmarked", module: "model.layers.0.feed_forward.experts"),
  ]

  private func request(_ model: Model, _ output: String, _ ranks: RankOptions) -> ExtractRequest {
    var request = ExtractRequest(
      base: model.base, tuned: model.tuned, output: output, ranks: ranks)
    request.dtype = .f32
    return request
  }

  /// The delta of a stack as `ParamWrapper.get_delta_weight` forms it: `o r e, e r i -> e o i`, or `-> e i o` where the
  /// class is marked (peft:src/peft/tuners/lora/layer.py, version 0.21.2).
  private func delta(
    a: [Double], b: [Double], experts: Int, rank: Int, rows: Int, columns: Int, isMarked: Bool
  ) -> [Double] {
    let (outputs, inputs) = isMarked ? (columns, rows) : (rows, columns)
    var result = [Double](repeating: 0, count: experts * rows * columns)
    for e in 0..<experts {
      for o in 0..<outputs {
        for i in 0..<inputs {
          var sum = 0.0
          for r in 0..<rank {
            sum += b[(o * rank + r) * experts + e] * a[(e * rank + r) * inputs + i]
          }
          result[(e * rows + (isMarked ? i : o)) * columns + (isMarked ? o : i)] = sum
        }
      }
    }
    return result
  }

  @Test("The factors are those that PEFT's formula wants", arguments: models)
  func factors(_ model: Model) throws {
    let folder = try TemporaryFolder()
    let report = try request(model, folder("a"), RankOptions(rank: 2)).run()
    let written = folder("a/adapter_model.safetensors")
    // The wrapper of what is registered last is the outermost.
    for (parameter, key) in [("gate_up_proj", ".base_layer"), ("down_proj", "")] {
      let tensor = TensorName("\(model.module).\(parameter)")
      let shape = try #require(try Checkpoint(opening: model.base)[tensor]).info.shape.dimensions
      let stem = "base_model.model.\(model.module)\(key)"
      let found = delta(
        a: try TestModels.values(TensorName("\(stem).lora_A.weight"), in: written),
        b: try TestModels.values(TensorName("\(stem).lora_B.weight"), in: written),
        experts: shape[0], rank: 2, rows: shape[1], columns: shape[2], isMarked: model.isMarked)
      let before = try TestModels.values(tensor, in: model.base)
      let after = try TestModels.values(tensor, in: model.tuned)
      for (change, (old, new)) in zip(found, zip(before, after)) {
        #expect(abs(old + change - new) < 2e-6 * max(1, abs(new)))
      }
      let entry = try #require(report.modules.first { $0.tensor == tensor })
      #expect(entry.action == .lowRank && entry.rank == 2 && entry.shape.dimensions == shape)
      #expect(try #require(entry.residualNorm) <= 1e-5 * (try #require(entry.deltaNorm)))
    }
    let config = try JSONValue(readingFile: folder("a/adapter_config.json"))
    let targets = config["target_parameters"]?.elements?.compactMap(\.text) ?? []
    #expect(targets.contains("\(model.module).gate_up_proj"))
    #expect(targets.contains("\(model.module).down_proj"))
    let modules = config["target_modules"]?.elements?.compactMap(\.text) ?? []
    #expect(modules.count == 1 && !modules[0].contains("experts"))
  }

  @Test("Merging brings the tuned model back", arguments: models)
  func merged(_ model: Model) throws {
    let folder = try TemporaryFolder()
    var byEnergy = RankOptions()
    byEnergy.energy = 0.999_999_9
    for (number, ranks) in [RankOptions(rank: 2), byEnergy].enumerated() {
      let adapter = folder("a\(number)")
      _ = try request(model, adapter, ranks).run()
      _ = try MergeRequest(
        model: model.base, adapters: [WeightedAdapter(adapter)], output: folder("m\(number)")
      ).run()
      for tensor in try Checkpoint(opening: model.tuned).tensors {
        let wanted = try TestModels.values(tensor.name, in: model.tuned)
        let found = try TestModels.values(tensor.name, in: folder("m\(number)"))
        #expect(zip(found, wanted).allSatisfy { abs($0 - $1) < 1e-3 * max(1, abs($1)) })
      }
    }
  }

  @Test("Left out, they count as lost", arguments: models)
  func skipped(_ model: Model) throws {
    let folder = try TemporaryFolder()
    var request = request(model, folder("a"), RankOptions(rank: 2))
    request.experts = .skip
    let report = try request.run()
    for parameter in ["gate_up_proj", "down_proj"] {
      let tensor = TensorName("\(model.module).\(parameter)")
      let entry = try #require(report.modules.first { $0.tensor == tensor })
      let before = try TestModels.values(tensor, in: model.base)
      let after = try TestModels.values(tensor, in: model.tuned)
      let norm = zip(before, after).reduce(0) { $0 + ($1.1 - $1.0) * ($1.1 - $1.0) }.squareRoot()
      #expect(entry.action == .skipped && entry.reason == "a stack of experts")
      #expect(abs(try #require(entry.deltaNorm) - norm) < 1e-6 * norm)
      #expect(entry.residualNorm == entry.deltaNorm)
    }
    let config = try JSONValue(readingFile: folder("a/adapter_config.json"))
    #expect(config["target_parameters"]?.elements?.isEmpty != false)
    let written = try Checkpoint(opening: folder("a/adapter_model.safetensors"))
    #expect(!written.tensors.contains { $0.name.text.contains("experts") })
  }

  /// The change of every expert in the file that PEFT wrote the adapter to, and in what became of it.
  private func merged(_ model: Model, _ adapter: String) throws -> [TensorName: [Double]] {
    let folder = try TemporaryFolder()
    var request = MergeRequest(
      model: model.base, adapters: [WeightedAdapter(adapter)], output: folder("m"))
    request.dtype = .f64
    _ = try request.run()
    var deltas: [TensorName: [Double]] = [:]
    for name in ["gate_up_proj", "down_proj"].map({ TensorName("\(model.module).\($0)") }) {
      deltas[name] = try zip(
        TestModels.values(name, in: folder("m")), TestModels.values(name, in: model.base)
      ).map { $0 - $1 }
    }
    return deltas
  }

  @Test("Experts are resized like matrices", arguments: models)
  func resized(_ model: Model) throws {
    let folder = try TemporaryFolder()
    let peers = URL(fileURLWithPath: model.tuned).deletingLastPathComponent().path
    let whole = try merged(model, peers)
    for rank in [1, 2, 3] {
      var request = ResizeRequest(
        adapter: peers, output: folder("r\(rank)"), ranks: RankOptions(rank: rank))
      request.dtype = .f32
      let report = try request.run()
      let resized = try merged(model, folder("r\(rank)"))
      for (name, delta) in whole {
        let entry = try #require(
          report.modules.first {
            name.text.hasSuffix($0.tensor.text.split(separator: ".").last ?? "")
          })
        let distance = zip(delta, try #require(resized[name])).reduce(0) {
          $0 + ($1.0 - $1.1) * ($1.0 - $1.1)
        }.squareRoot()
        let norm = delta.reduce(0) { $0 + $1 * $1 }.squareRoot()
        #expect(abs(distance - (entry.residualNorm ?? -1)) < 1e-5 * norm, "\(name) at \(rank)")
        #expect(abs(norm - (entry.deltaNorm ?? -1)) < 1e-6 * norm)
        // The adapters are of rank 2, so that nothing is lost from there on.
        if rank > 1 { #expect(distance < 1e-5 * norm) }
      }
    }
  }

  @Test("Experts are added up", arguments: models)
  func combined(_ model: Model) throws {
    let folder = try TemporaryFolder()
    let peers = URL(fileURLWithPath: model.tuned).deletingLastPathComponent().path
    let whole = try merged(model, peers)
    var less = ResizeRequest(adapter: peers, output: folder("less"), ranks: RankOptions(rank: 1))
    less.dtype = .f32
    _ = try less.run()
    let second = try merged(model, folder("less"))
    for method in [CombineRequest.Method.concat, .svd] {
      var request = CombineRequest(
        adapters: [
          WeightedAdapter(peers, weight: 0.5), WeightedAdapter(folder("less"), weight: -2),
        ],
        output: folder(method.rawValue), method: method)
      request.dtype = .f32
      if method == .svd { request.ranks.rank = 3 }
      _ = try request.run()
      for (name, found) in try merged(model, folder(method.rawValue)) {
        let (one, two) = (try #require(whole[name]), try #require(second[name]))
        let largest = one.map(\.magnitude).max() ?? 0
        for index in found.indices {
          #expect(abs(found[index] - 0.5 * one[index] + 2 * two[index]) < 1e-5 * largest)
        }
      }
    }
    var pruned = CombineRequest(
      adapters: [WeightedAdapter(peers)], output: folder("p"), method: .tiesSVD)
    pruned.density = 0.5
    #expect(surgeryError { _ = try pruned.run() }?.id == "combine.kind")
  }

  @Test func aBudgetCountsEveryExpert() throws {
    let model = Self.models[0]
    let folder = try TemporaryFolder()
    var ranks = RankOptions()
    // gate_up_proj costs 3 x (6 + 10) numbers a rank, down_proj 3 x (5 + 6).
    ranks.budget = .bytes(4 * (48 + 2 * 33) + 3)
    var request = request(model, folder("a"), ranks)
    request.selection.include = ["experts"]
    let report = try request.run()
    let stored = report.modules.reduce(0) { sum, module in
      sum + (module.rank ?? 0) * (module.tensor.text.hasSuffix("down_proj") ? 33 : 48)
    }
    #expect(stored == report.totals.parameters)
    #expect(stored > 0 && 4 * stored <= 4 * (48 + 2 * 33) + 3)
  }

  @Test func partsGiveTheSameBytes() throws {
    let model = Self.models[1]
    let folder = try TemporaryFolder()
    _ = try request(model, folder("whole"), RankOptions(rank: 2)).run()
    try FileManager.default.createDirectory(
      atPath: folder("parts"), withIntermediateDirectories: false)
    for number in 1...3 {
      var part = request(model, folder("parts"), RankOptions(rank: 2))
      part.part = try Part(number, of: 3)
      _ = try part.run()
    }
    _ = try GatherRequest(pieces: [folder("parts")], output: folder("gathered")).run()
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
      #expect(
        try Data(contentsOf: URL(fileURLWithPath: folder("whole/\(name)")))
          == Data(contentsOf: URL(fileURLWithPath: folder("gathered/\(name)"))))
    }
  }

  @Test func otherDialectsRefuseStacksThatChanged() throws {
    let folder = try TemporaryFolder()
    var kohya = request(Self.models[0], folder("a.safetensors"), RankOptions(rank: 2))
    kohya.dialect = .kohya
    #expect(surgeryError { _ = try kohya.run() }?.id == "adapter.inexpressible")
    #expect(folder.contents.isEmpty)
    kohya.selection.exclude = ["experts"]
    #expect(try kohya.run().totals.changed == 1)
  }

  @Test func aKernelIsNoStack() throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(9)
    let base = [
      TestTensor(name: "conv.weight", shape: [6, 5, 3], values: random.values(90)),
      TestTensor(name: "layer.experts.down_proj", shape: [6, 5, 3], values: random.values(90)),
    ]
    let tuned = base.map { tensor in
      TestTensor(
        name: tensor.name, shape: tensor.shape, values: zip(tensor.values, random.values(90)).map(+)
      )
    }
    try TestModels.write(base, to: folder("base"))
    try TestModels.write(tuned, to: folder("tuned"))
    _ = try ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("a"), ranks: RankOptions(rank: 1)
    ).run()
    let shapes = Dictionary(
      uniqueKeysWithValues: try Checkpoint(opening: folder("a/adapter_model.safetensors")).tensors
        .map { ($0.name.text, $0.info.shape.dimensions) })
    #expect(
      shapes == [
        "base_model.model.conv.lora_A.weight": [1, 5, 3],
        "base_model.model.conv.lora_B.weight": [6, 1, 1],
        "base_model.model.layer.experts.lora_A.weight": [6, 3],
        "base_model.model.layer.experts.lora_B.weight": [5, 6],
      ])
  }
}
