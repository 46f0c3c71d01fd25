import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

struct ExtractTests {
  /// What changed and is no weight has no difference that a merge could add; the dialects that hold it are named.
  @Test func integersAreNoDifferences() throws {
    let folder = try TemporaryFolder()
    var (base, tuned) = TestModels.pair(rank: 1)
    for (index, value) in [1.0, 2].enumerated() {
      let positions = TestTensor(
        name: "layer.0.positions", shape: [3], values: [0, value, 2], dtype: .i64)
      if index == 0 { base.append(positions) } else { tuned.append(positions) }
    }
    try TestModels.write(base, to: folder("base"))
    try TestModels.write(tuned, to: folder("tuned"))
    var request = ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("out.safetensors"),
      ranks: RankOptions(rank: 1))
    request.dialect = .kohya
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == "adapter.inexpressible" && error?.kind == .unsupported)
    #expect(error?.tensor == "layer.0.positions" && error?.hint?.contains("--to compact") == true)
    #expect(folder.contents == ["base", "tuned"])
    request.selection = Selection(exclude: ["positions"])
    #expect(try request.run().modules.count == 4)
  }

  /// The tutorial of R's torch (blogs.rstudio.com/ai/posts/2023-06-22-understanding-lora): tuned is theta + 1.
  @Test func aConstantShiftIsARankOneAdapter() throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(42)
    let theta = random.values(1001 * 1000)
    try TestModels.write(
      [TestTensor(name: "linear.weight", shape: [1001, 1000], values: theta)],
      to: folder("base.safetensors"))
    try TestModels.write(
      [TestTensor(name: "linear.weight", shape: [1001, 1000], values: theta.map { $0 + 1 })],
      to: folder("tuned.safetensors"))
    let report = try ExtractRequest(
      base: folder("base.safetensors"), tuned: folder("tuned.safetensors"),
      output: folder("adapter"), ranks: RankOptions(rank: 1)
    ).run()
    #expect(report.modules.map(\.action) == [.lowRank])
    let up = try TestModels.values(
      "base_model.model.linear.lora_B.weight", in: folder("adapter/adapter_model.safetensors"))
    let down = try TestModels.values(
      "base_model.model.linear.lora_A.weight", in: folder("adapter/adapter_model.safetensors"))
    let worst = up.flatMap { b in down.map { a in abs(b * a - 1) } }.max()
    #expect(try #require(worst) < 1e-5)
    _ = try MergeRequest(
      model: folder("base.safetensors"), adapters: [WeightedAdapter(folder("adapter"))],
      output: folder("merged.safetensors")
    ).run()
    let tuned = try TestModels.values("linear.weight", in: folder("tuned.safetensors"))
    let merged = try TestModels.values("linear.weight", in: folder("merged.safetensors"))
    #expect(zip(tuned, merged).allSatisfy { abs($0 - $1) < 1e-5 })
  }

  /// A matrix such as Mamba's `A_log` belongs to a module without being its weight.
  @Test(arguments: [Dialect.peft, .kohya, .diffusers, .loralib, .mlx, .comfyui])
  func whatTheDialectCannotNameIsRefusedWithAWayRound(_ dialect: Dialect) throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(3)
    let values = random.values(12 * 8)
    let (base, tuned) = (folder("base.safetensors"), folder("tuned.safetensors"))
    for (path, shift) in [(base, 0.0), (tuned, 1)] {
      try TestModels.write(
        [TestTensor(name: "A_log", shape: [12, 8], values: values.map { $0 + shift })], to: path)
    }
    var request = ExtractRequest(
      base: base, tuned: tuned, output: folder("adapter"), ranks: RankOptions(rank: 1))
    request.dialect = dialect
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == "adapter.inexpressible" && error?.tensor == "A_log")
    #expect(error?.what.contains("no module's weight") == true, "\(String(describing: error))")
    #expect(error?.hint?.contains("--exclude") == true)
    request.dialect = .compact
    #expect(try request.run().totals.capturedEnergy ?? 0 > 0.999)
  }

  /// Frozen tensors of a fine-tune that was saved in another dtype hold the same values, and nothing has to hold them.
  @Test func anotherDtypeIsNoChange() throws {
    let folder = try TemporaryFolder()
    let frozen = (0..<32).map(Double.init)
    for (path, dtype, shift) in [("base", DType.bf16, 0.0), ("tuned", .f32, 1)] {
      try TestModels.write(
        [
          TestTensor(name: "mixer.A_log", shape: [4, 8], values: frozen, dtype: dtype),
          TestTensor(
            name: "mixer.in_proj.weight", shape: [4, 8], values: frozen.map { $0 + shift },
            dtype: dtype),
        ], to: folder(path))
    }
    let report = try ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("adapter"),
      ranks: RankOptions(rank: 1)
    ).run()
    #expect(report.modules.map(\.action) == [.unchanged, .lowRank])
  }

  /// llama.cpp's order of rows and names follow from the configuration, which conversion is told and extraction has itself.
  @Test func whatLlamaCppNeedsIsTakenFromTheBase() throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(12)
    let names = ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj"]
    for model in ["base", "tuned"] {
      try TestModels.write(
        names.map {
          TestTensor(
            name: TensorName("model.layers.0.\($0).weight"), shape: [16, 16],
            values: random.values(256))
        }, to: folder(model),
        config: #"{"model_type":"llama","num_attention_heads":4,"_name_or_path":"a/llama"}"#)
    }
    var request = ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("peft"),
      ranks: RankOptions(rank: 3))
    _ = try request.run()
    var conversion = ConvertRequest(input: folder("peft"), output: folder("converted.gguf"))
    conversion.base = folder("base")
    _ = try conversion.run()
    request.output = folder("extracted.gguf")
    _ = try request.run()
    request.output = folder("parts/")
    request.dialect = .gguf
    for number in 1...2 {
      request.part = try Part(number, of: 2)
      _ = try request.run()
    }
    _ = try GatherRequest(pieces: [folder("parts")], output: folder("gathered.gguf")).run()
    let converted = try Data(contentsOf: URL(fileURLWithPath: folder("converted.gguf")))
    for path in ["extracted.gguf", "gathered.gguf"] {
      #expect(try Data(contentsOf: URL(fileURLWithPath: folder(path))) == converted, "\(path)")
    }
  }

  /// The large matrix, which no SVD could take, is not reached: its work would be lost.
  @Test func whatTheDialectCannotNameIsRefusedBeforeAnythingIsFactored() throws {
    let folder = try TemporaryFolder()
    let (base, tuned) = (folder("base.safetensors"), folder("tuned.safetensors"))
    for (path, value) in [(base, 0.0), (tuned, .nan)] {
      try TestModels.write(
        [
          TestTensor(
            name: "mixer.in_proj.weight", shape: [64, 64],
            values: [Double](repeating: value, count: 64 * 64)),
          TestTensor(
            name: "mixer.A_log", shape: [4, 4], values: (0..<16).map { $0 == 0 ? value : 1 }),
          TestTensor(
            name: "mixer.B_log", shape: [4, 4], values: [Double](repeating: 1, count: 16)),
        ], to: path)
    }
    var request = ExtractRequest(
      base: base, tuned: tuned, output: folder("adapter"), ranks: RankOptions(rank: 1))
    let refused = surgeryError { _ = try request.run() }
    #expect(refused?.id == "adapter.inexpressible" && refused?.tensor == "mixer.A_log")
    request.part = try Part(1, of: 1)
    request.dialect = .peft
    #expect(surgeryError { _ = try request.run() }?.id == "adapter.inexpressible")
    (request.part, request.dialect) = (nil, nil)
    request.selection = Selection(exclude: ["A_log"])
    #expect(surgeryError { _ = try request.run() }?.tensor == "mixer.in_proj.weight")
  }

  @Test(arguments: [ExtractRequest.Method.randomized, .exact], [Precision.float32, .float64])
  func aDeltaOfTheAskedRankComesBackWhole(
    method: ExtractRequest.Method, precision: Precision
  ) throws {
    let folder = try TemporaryFolder()
    let (base, tuned) = TestModels.pair(rank: 3)
    try TestModels.write(base, to: folder("base"))
    try TestModels.write(tuned, to: folder("tuned"))
    var request = ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("adapter"),
      ranks: RankOptions(rank: 3))
    request.method = method
    request.precision = precision
    let report = try request.run()
    #expect(report.totals.capturedEnergy ?? 0 > 0.999999)
    _ = try MergeRequest(
      model: folder("base"), adapters: [WeightedAdapter(folder("adapter"))],
      output: folder("merged")
    ).run()
    for tensor in tuned {
      let merged = try TestModels.values(tensor.name, in: folder("merged"))
      #expect(zip(merged, tensor.values).allSatisfy { abs($0 - $1) < 2e-5 }, "\(tensor.name)")
    }
  }

  @Test func everyTensorIsAccountedFor() throws {
    let folder = try TemporaryFolder()
    let (base, tuned) = TestModels.pair(rank: 2)
    try TestModels.write(base, to: folder("base"))
    try TestModels.write(tuned, to: folder("tuned"))
    let report = try ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("adapter"),
      ranks: RankOptions(rank: 2)
    ).run()
    let actions = Dictionary(uniqueKeysWithValues: report.modules.map { ($0.tensor, $0.action) })
    #expect(
      actions == [
        "layer.0.proj.weight": .lowRank, "layer.0.norm.weight": .full, "head.weight": .unchanged,
      ])
    #expect(report.totals.tensors == 3)
    #expect(report.totals.changed == 2)
    let norm = zip(tuned[1].values, base[1].values).reduce(0) { $0 + pow($1.0 - $1.1, 2) }
    #expect(
      abs((report.modules.first { $0.action == .full }?.deltaNorm ?? 0) - norm.squareRoot()) < 1e-5)
  }

  @Test func theSameInputGivesTheSameBytesWhateverTheWorkers() throws {
    let folder = try TemporaryFolder()
    let (base, tuned) = TestModels.pair(rank: 6)
    try TestModels.write(base, to: folder("base"))
    try TestModels.write(tuned, to: folder("tuned"))
    var written: [Data] = []
    for jobs in [1, 2, 5] {
      let output = folder("adapter-\(jobs)")
      _ = try ExtractRequest(
        base: folder("base"), tuned: folder("tuned"), output: output, ranks: RankOptions(rank: 4)
      ).run(Execution(jobs: jobs))
      written.append(
        try Data(contentsOf: URL(fileURLWithPath: output + "/adapter_model.safetensors")))
    }
    #expect(Set(written).count == 1)
  }

  @Test func energiesAreThoseOfTheRoundedFactors() throws {
    let folder = try TemporaryFolder()
    let (base, tuned) = TestModels.pair(rank: 6)
    try TestModels.write(base, to: folder("base.safetensors"))
    try TestModels.write(tuned, to: folder("tuned.safetensors"))
    var request = ExtractRequest(
      base: folder("base.safetensors"), tuned: folder("tuned.safetensors"),
      output: folder("adapter"), ranks: RankOptions(rank: 3))
    request.dtype = .f16
    let report = try #require(try request.run().modules.first { $0.action == .lowRank })
    let file = folder("adapter/adapter_model.safetensors")
    let up = try TestModels.values("base_model.model.layer.0.proj.lora_B.weight", in: file)
    let down = try TestModels.values("base_model.model.layer.0.proj.lora_A.weight", in: file)
    let delta = zip(
      try TestModels.values("layer.0.proj.weight", in: folder("tuned.safetensors")),
      try TestModels.values("layer.0.proj.weight", in: folder("base.safetensors"))
    ).map(-)
    var residual = 0.0
    for row in 0..<24 {
      for column in 0..<40 {
        let product = (0..<3).reduce(0) { $0 + up[row * 3 + $1] * down[$1 * 40 + column] }
        residual += pow(delta[row * 40 + column] - product, 2)
      }
    }
    #expect(abs((report.residualNorm ?? 0) / residual.squareRoot() - 1) < 1e-4)
  }
}

/// Ranks that the data choose, against spectra that were planted.
struct ExtractRankTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    // Deltas of rank one each, of norms 8, 4 and 1: what a budget buys first is known beforehand.
    var base: [TestTensor] = []
    var tuned: [TestTensor] = []
    for (index, norm) in [8.0, 4, 1].enumerated() {
      var left = [Double](repeating: 0, count: 16)
      left[index] = norm
      var weights = TestTensor(
        name: TensorName("layer.\(index).weight"), shape: [16, 16],
        values: [Double](repeating: 0, count: 256))
      base.append(weights)
      for row in 0..<16 { weights.values[row * 16 + 3] = left[row] }
      tuned.append(weights)
    }
    try TestModels.write(base, to: folder("base"))
    try TestModels.write(tuned, to: folder("tuned"))
  }

  private func ranks(_ change: (inout RankOptions) -> Void) throws -> [Int?] {
    var options = RankOptions()
    change(&options)
    var request = ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("adapter"), ranks: options)
    request.force = true
    return try request.run().modules.map(\.rank)
  }

  @Test func aBudgetBuysTheStrongestFirst() throws {
    // One rank of a 16 x 16 matrix in F32 takes 128 bytes.
    #expect(try ranks { $0.budget = .bytes(128) } == [1, nil, nil])
    #expect(try ranks { $0.budget = .bytes(256) } == [1, 1, nil])
    #expect(try ranks { $0.budget = .bytes(1000) } == [1, 1, 1])
  }

  @Test func aBudgetSmallerThanOneRankIsRefused() throws {
    #expect(surgeryError { _ = try ranks { $0.budget = .bytes(100) } }?.id == "rank.budget")
  }

  @Test func energyAndErrorAreMetByTheLeastRank() throws {
    #expect(try ranks { $0.energy = 0.99 } == [1, 1, 1])
    #expect(try ranks { $0.maxError = 0.01 } == [1, 1, 1])
  }

  @Test func aNamedRankWins() throws {
    #expect(
      try ranks {
        $0.rank = 2
        $0.rankFor = [.init(pattern: "layer.1", rank: 1)]
      } == [2, 1, 2])
  }

  @Test func twoRulesContradict() {
    let error = surgeryError {
      _ = try ranks {
        $0.rank = 2
        $0.energy = 0.5
      }
    }
    #expect(error?.id == "rank.conflict")
  }
}

/// What an adapter without a place for them does not hold is stated.
struct ExtractOmissionTests {
  @Test func omittedTensorsCountAsLost() throws {
    let folder = try TemporaryFolder()
    let (base, tuned) = TestModels.pair(rank: 2)
    try TestModels.write(base, to: folder("base"))
    try TestModels.write(tuned, to: folder("tuned"))
    var request = ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("adapter"),
      ranks: RankOptions(rank: 2))
    request.others = .skip
    let report = try request.run()
    let norm = try #require(report.modules.first { $0.tensor == "layer.0.norm.weight" })
    #expect(norm.action == .skipped)
    // The norm's 40 elements moved by one half each.
    #expect(abs((norm.residualNorm ?? 0) - 10.0.squareRoot()) < 1e-5)
    #expect(report.totals.capturedEnergy ?? 1 < 0.999)
  }

  @Test func aVocabularyThatGrewIsKeptInFull() throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(3)
    let rows = random.values(10 * 8)
    try TestModels.write(
      [TestTensor(name: "model.embed_tokens.weight", shape: [10, 8], values: rows)],
      to: folder("base"))
    try TestModels.write(
      [
        TestTensor(
          name: "model.embed_tokens.weight", shape: [12, 8], values: rows + random.values(16))
      ], to: folder("tuned"))
    let report = try ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("adapter"),
      ranks: RankOptions(rank: 2)
    ).run()
    #expect(report.modules.map(\.action) == [.full])
  }
}

/// Every input that must be refused, with what it is refused for and nothing left behind.
struct ExtractRefusalTests {
  let folder: TemporaryFolder
  let base: [TestTensor]
  let tuned: [TestTensor]

  init() throws {
    folder = try TemporaryFolder()
    (base, tuned) = TestModels.pair(rank: 2)
    try TestModels.write(base, to: folder("base"))
    try TestModels.write(tuned, to: folder("tuned"))
  }

  private func refusal(
    base: String = "base", tuned: String = "tuned", output: String = "adapter", rank: Int = 2,
    _ change: (inout ExtractRequest) -> Void = { _ in }
  ) -> SurgeryError? {
    var request = ExtractRequest(
      base: folder(base), tuned: folder(tuned), output: folder(output),
      ranks: RankOptions(rank: rank))
    change(&request)
    let before = folder.contents
    let error = surgeryError { _ = try request.run() }
    #expect(folder.contents == before, "something was left behind")
    return error
  }

  @Test func aMissingModel() {
    let error = refusal(base: "nowhere")
    #expect(error?.id == "file.missing")
    #expect(error?.kind == .missingInput)
  }

  @Test func aFileOfAnotherKind() throws {
    try "just text".write(toFile: folder("note.safetensors"), atomically: true, encoding: .utf8)
    #expect(refusal(base: "note.safetensors")?.kind == .data)
  }

  @Test func aTensorOnlyInOne() throws {
    try TestModels.write(Array(base.dropLast()), to: folder("small"))
    let error = refusal(base: "small")
    #expect(error?.id == "extract.missing")
    #expect(error?.tensor == "head.weight")
    #expect(refusal(tuned: "small")?.id == "extract.missing")
  }

  @Test func modelsWithoutACommonTensorAreNoPair() throws {
    let other = base.map {
      TestTensor(name: TensorName("other.\($0.name.text)"), shape: $0.shape, values: $0.values)
    }
    try TestModels.write(other, to: folder("other"))
    let error = refusal(tuned: "other")
    #expect(error?.id == "extract.missing" && error?.tensor == nil)
    #expect(error?.what == "the two models have no tensor in common")
  }

  @Test func aSelectionOfNothing() {
    #expect(refusal { $0.selection = Selection(include: ["no such"]) }?.id == "usage.selection")
    #expect(refusal { $0.selection = Selection(exclude: [""]) }?.id == "usage.selection")
  }

  @Test func aFormatThatIsOnlyReadIsRefusedBeforeAnyWork() {
    for isDry in [false, true] {
      let error = refusal(output: "adapter.bin") { $0.dryRun = isDry }
      #expect(error?.id == "output.format" && error?.kind == .unsupported)
      #expect(error?.file == folder("adapter.bin"))
    }
  }

  @Test func aTensorOnlyInOneWhereThatIsAllowed() throws {
    try TestModels.write(Array(base.dropLast()), to: folder("small"))
    var request = ExtractRequest(
      base: folder("small"), tuned: folder("tuned"), output: folder("adapter"),
      ranks: RankOptions(rank: 2))
    request.allowMissing = true
    let report = try request.run()
    #expect(report.modules.contains { $0.tensor == "head.weight" && $0.action == .skipped })
  }

  @Test func anotherShape() throws {
    var other = tuned
    other[0] = TestTensor(name: other[0].name, shape: [40, 24], values: other[0].values)
    try TestModels.write(other, to: folder("other"))
    let error = refusal(tuned: "other")
    #expect(error?.id == "extract.shape")
    #expect(error?.expected == "[24, 40]")
    #expect(error?.found == "[40, 24]")
  }

  @Test(arguments: [Double.nan, .infinity]) func aValueThatIsNotFinite(_ value: Double) throws {
    var other = base
    other[0].values[77] = value
    try TestModels.write(other, to: folder("other"))
    let error = refusal(base: "other")
    #expect(error?.kind == .data)
    #expect(error?.tensor == "layer.0.proj.weight")
    #expect(error?.what.contains("77") == true)
  }

  @Test(arguments: [0, -3]) func aRankThatIsNone(_ rank: Int) {
    #expect(refusal(rank: rank)?.id == "rank.range")
  }

  @Test func aRankBeyondEveryMatrix() {
    let error = refusal(rank: 24)
    #expect(error?.id == "extract.rank")
    #expect(error?.kind == .usage)
  }

  @Test func modelsThatAreTheSame() {
    let error = refusal(tuned: "base")
    #expect(error?.id == "extract.identical")
    #expect(error?.kind == .data)
  }

  @Test func aFolderThatDoesNotExist() {
    #expect(refusal(output: "no/such/folder")?.kind == .outputRefused)
  }

  @Test func anExistingOutputStaysUntouched() throws {
    try FileManager.default.createDirectory(
      atPath: folder("adapter"), withIntermediateDirectories: false)
    try "mine".write(toFile: folder("adapter/note"), atomically: true, encoding: .utf8)
    #expect(refusal()?.id == "output.exists")
    #expect(try String(contentsOfFile: folder("adapter/note"), encoding: .utf8) == "mine")
  }

  @Test func factorsThatDoNotFitTheirDType() throws {
    var huge = tuned
    huge[0].values = huge[0].values.map { $0 * 1e12 }
    try TestModels.write(huge, to: folder("huge"))
    let error = refusal(tuned: "huge") { $0.dtype = .f16 }
    #expect(error?.id == "dtype.overflow")
    #expect(error?.tensor == "layer.0.proj.weight")
  }

  @Test func aStopBetweenBlocks() throws {
    let interruption = Interruption()
    interruption.request(signal: 15)
    let request = ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("adapter"),
      ranks: RankOptions(rank: 2))
    let before = folder.contents
    let error = surgeryError { _ = try request.run(Execution(interruption: interruption)) }
    #expect(error?.kind == .interrupted(signal: 15))
    #expect(folder.contents == before)
  }
}
