import Adapters
import Checkpoints
import Foundation
import LinearAlgebra
import LoRASurgery
import Tensors
import Testing

struct ConvertAdapterTests {
  @discardableResult
  private static func convert(
    _ input: String, to output: String, _ dialect: Dialect?,
    _ set: (inout ConvertRequest) -> Void = { _ in }
  ) throws -> OperationReport {
    var request = ConvertRequest(input: input, output: output)
    request.dialect = dialect
    set(&request)
    return try request.run()
  }

  /// A small model of llama's names with two layers, its configuration, and a PEFT adapter for it.
  private static func llama(in folder: TemporaryFolder) throws {
    var random = SeededGenerator(5)
    let shapes = [("q_proj", 16), ("k_proj", 8), ("o_proj", 16)]
    var base: [TestTensor] = []
    var factors: [TestTensor] = []
    for layer in 0..<2 {
      for (name, rows) in shapes {
        let module = "model.layers.\(layer).self_attn.\(name)"
        base.append(
          TestTensor(
            name: TensorName(module + ".weight"), shape: [rows, 16],
            values: random.values(rows * 16)))
        factors.append(
          TestTensor(
            name: TensorName("base_model.model.\(module).lora_A.weight"), shape: [2, 16],
            values: random.values(32)))
        factors.append(
          TestTensor(
            name: TensorName("base_model.model.\(module).lora_B.weight"), shape: [rows, 2],
            values: random.values(rows * 2)))
      }
    }
    let config =
      #"{"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2}"#
    try TestModels.write(base, to: folder("base"), config: config)
    try TestModels.write(factors, to: folder("factors.safetensors"))
    try convert(folder("factors.safetensors"), to: folder("adapter"), .peft) {
      $0.adapterOptions.alphas = [.init(value: 6)]
    }
  }

  @Test(arguments: [Dialect.peft, .kohya, .diffusers, .comfyui])
  func renamingKeepsEveryBitOfTheFactors(_ dialect: Dialect) throws {
    let folder = try TemporaryFolder()
    try Self.llama(in: folder)
    let output = folder("out.safetensors")
    try Self.convert(folder("adapter"), to: output, dialect) {
      $0.base = folder("base")
    }
    try Self.convert(output, to: folder("back"), .peft) { $0.base = folder("base") }
    #expect(try tensorBytes(folder("back")) == tensorBytes(folder("adapter")))
    #expect(try deltas(of: folder("back")) == deltas(of: folder("adapter")))
  }

  @Test func mlxIsTransposedAndComesBackWithEveryBit() throws {
    let folder = try TemporaryFolder()
    try Self.llama(in: folder)
    try Self.convert(folder("adapter"), to: folder("mlx"), .mlx)
    #expect(try deltas(of: folder("mlx")) == deltas(of: folder("adapter")))
    try Self.convert(folder("mlx"), to: folder("back"), .peft)
    #expect(try tensorBytes(folder("back")) == tensorBytes(folder("adapter")))
  }

  @Test func ggufHasLlamasRowOrderAndComesBackWithEveryBit() throws {
    let folder = try TemporaryFolder()
    try Self.llama(in: folder)
    try Self.convert(folder("adapter"), to: folder("out.gguf"), .gguf) { $0.base = folder("base") }
    let stored = try TestModels.values("blk.1.attn_k.weight.lora_b", in: folder("out.gguf"))
    let original = try TestModels.values(
      "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight", in: folder("adapter"))
    // Two heads of four rows: the halves of each are interleaved.
    let order = [0, 2, 1, 3, 4, 6, 5, 7]
    for (row, from) in order.enumerated() {
      #expect(stored[row * 2..<row * 2 + 2] == original[from * 2..<from * 2 + 2])
    }
    try Self.convert(folder("out.gguf"), to: folder("back"), .peft) { $0.base = folder("base") }
    #expect(try tensorBytes(folder("back")) == tensorBytes(folder("adapter")))
    // Without the model, ranks change in llama.cpp's own order.
    var resize = ResizeRequest(
      adapter: folder("out.gguf"), output: folder("small.gguf"), ranks: RankOptions(rank: 2))
    resize.force = true
    _ = try resize.run()
    try Self.convert(folder("small.gguf"), to: folder("small"), .peft) { $0.base = folder("base") }
    let (small, whole) = (try deltas(of: folder("small")), try deltas(of: folder("adapter")))
    for (module, delta) in whole {
      #expect(relativeDistance(small[module]?.elements ?? [], delta.elements) < 1e-6)
    }
  }

  /// A base of which there is nothing but its configuration.
  private static func configuration(_ text: String, in folder: TemporaryFolder) throws {
    try FileManager.default.createDirectory(
      atPath: folder("base"), withIntermediateDirectories: false)
    try text.write(toFile: folder("base/config.json"), atomically: true, encoding: .utf8)
  }

  @Test func theConfigurationAloneTellsTheOrderOfRows() throws {
    let folder = try TemporaryFolder()
    try Self.llama(in: folder)
    try Self.convert(folder("adapter"), to: folder("out.gguf"), .gguf) { $0.base = folder("base") }
    try FileManager.default.removeItem(atPath: folder("base/model.safetensors"))
    try Self.convert(folder("out.gguf"), to: folder("back"), .peft) { $0.base = folder("base") }
    #expect(try tensorBytes(folder("back")) == tensorBytes(folder("adapter")))
    let untold = surgeryError { try Self.convert(folder("out.gguf"), to: folder("no"), .peft) }
    #expect(untold?.id == "adapter.no-heads" && untold?.hint?.contains("--base") == true)
  }

  /// Rows of 32 and more become blocks, shorter ones float16, as llama.cpp's converter has it.
  @Test func ggufTakesBlocksOfEightBits() throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(3)
    let module = "base_model.model.model.layers.0.mlp.down_proj"
    let down = TestTensor(
      name: TensorName("\(module).lora_A.weight"), shape: [2, 64], values: random.values(128))
    let up = TestTensor(
      name: TensorName("\(module).lora_B.weight"), shape: [16, 2], values: random.values(32))
    try TestModels.write([down, up], to: folder("factors.safetensors"))
    try Self.configuration(#"{"model_type": "qwen2"}"#, in: folder)
    func convert(to name: String, _ dialect: Dialect) throws {
      try Self.convert(folder("factors.safetensors"), to: folder(name), dialect) {
        $0.base = dialect == .gguf ? folder("base") : nil
        $0.adapterOptions.alphas = [.init(value: 2)]
        $0.dtype = .blockQuantised(.q8_0)
      }
    }
    try convert(to: "out.gguf", .gguf)
    let stored = try Checkpoint(opening: folder("out.gguf"))
    let dtypes = stored.tensors.map { "\($0.name) \($0.storedDType)" }
    #expect(
      dtypes.sorted() == [
        "blk.0.ffn_down.weight.lora_a Q8_0", "blk.0.ffn_down.weight.lora_b F16",
      ])
    let values = try TestModels.values("blk.0.ffn_down.weight.lora_a", in: folder("out.gguf"))
    for (start, row) in [0, 32, 64, 96].map({ ($0, $0..<$0 + 32) }) {
      let largest = down.values[row].map { abs($0) }.max() ?? 0
      for index in start..<start + 32 {
        // Half a step, and what float16 leaves of it.
        #expect(abs(values[index] - down.values[index]) <= largest * (0.5 / 127 + 1.0 / 2048))
      }
    }
    let refused = surgeryError { try convert(to: "kohya.safetensors", .kohya) }
    #expect(refused?.id == "dtype.factors" && refused?.kind == .usage)
    #expect(!folder.contents.contains("kohya.safetensors"))
  }

  /// llama.cpp's names are those of gguf-py's `get_tensor_name_map` (0.19.0).
  @Test(arguments: [
    ("starcoder2", "mlp.c_fc", "ffn_up"), ("starcoder2", "mlp.c_proj", "ffn_down"),
    ("phi3", "mlp.gate_up_proj", "ffn_up"), ("glm4", "mlp.gate_up_proj", "ffn_up"),
    ("phi", "self_attn.dense", "attn_output"), ("phi", "mlp.fc2", "ffn_down"),
    ("qwen3_moe", "self_attn.q_proj", "attn_q"), ("cohere", "mlp.up_proj", "ffn_up"),
  ])
  func ggufNamesModulesAndFindsThemAgain(_ type: String, _ module: String, _ name: String) throws {
    let folder = try TemporaryFolder()
    let path = "base_model.model.model.layers.3.\(module)"
    var random = SeededGenerator(4)
    try TestModels.write(
      [
        TestTensor(
          name: TensorName("\(path).lora_A.weight"), shape: [2, 8], values: random.values(16)),
        TestTensor(
          name: TensorName("\(path).lora_B.weight"), shape: [6, 2], values: random.values(12)),
      ], to: folder("factors.safetensors"))
    try Self.configuration(#"{"model_type": "\#(type)"}"#, in: folder)
    try Self.convert(folder("factors.safetensors"), to: folder("out.gguf"), .gguf) {
      $0.base = folder("base")
      $0.adapterOptions.alphas = [.init(value: 2)]
    }
    let names = try Checkpoint(opening: folder("out.gguf")).tensors.map(\.name.text)
    #expect(names.sorted() == ["lora_a", "lora_b"].map { "blk.3.\(name).weight.\($0)" })
    try Self.convert(folder("out.gguf"), to: folder("back"), .peft)
    #expect(try tensorBytes(folder("back")) == tensorBytes(folder("factors.safetensors")))
  }

  /// A saved module parts from the embedding that it shares its tensor with, unless the two are to stay tied.
  @Test(arguments: [("lm_head", false, 3), ("model.embed_tokens", true, 2)])
  func savedModulesStaySaved(_ module: String, isTied: Bool, count: Int) throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(6)
    func tensor(_ name: String, _ shape: [Int]) -> TestTensor {
      TestTensor(name: TensorName(name), shape: shape, values: random.values(shape.reduce(1, *)))
    }
    let prefix = "base_model.model."
    try TestModels.write(
      [tensor("model.embed_tokens.weight", [10, 4]), tensor("model.q_proj.weight", [4, 4])],
      to: folder("base"), config: #"{"model_type": "qwen2", "tie_word_embeddings": true}"#)
    let config =
      #"{"peft_type":"LORA","r":2,"lora_alpha":2,"modules_to_save":["\#(module)"],"#
      + #""ensure_weight_tying":\#(isTied)}"#
    try TestModels.write(
      [
        tensor(prefix + module + ".weight", [10, 4]),
        tensor(prefix + "model.q_proj.lora_A.weight", [2, 4]),
        tensor(prefix + "model.q_proj.lora_B.weight", [4, 2]),
      ], to: folder("adapter"))
    try FileManager.default.moveItem(
      atPath: folder("adapter/model.safetensors"),
      toPath: folder("adapter/adapter_model.safetensors"))
    try config.write(
      toFile: folder("adapter/adapter_config.json"), atomically: true, encoding: .utf8)
    try Self.convert(folder("adapter"), to: folder("copy"), .peft) { $0.base = folder("base") }
    let saved = try JSONValue(readingFile: folder("copy/adapter_config.json"))["modules_to_save"]
    #expect(saved == (isTied ? .null : .array([.string(module)])))
    for name in ["adapter", "copy"] {
      _ = try MergeRequest(
        model: folder("base"), adapters: [WeightedAdapter(folder(name))],
        output: folder("of-\(name)")
      ).run()
    }
    #expect(try tensorBytes(folder("of-copy")) == tensorBytes(folder("of-adapter")))
    #expect(try tensorBytes(folder("of-copy")).count == count)
  }

  @Test func ggufWithoutTheModelIsRefused() throws {
    let folder = try TemporaryFolder()
    try Self.llama(in: folder)
    let refused = surgeryError {
      try Self.convert(folder("adapter"), to: folder("out.gguf"), .gguf)
    }
    #expect(refused?.id == "adapter.no-architecture")
    #expect(!folder.contents.contains("out.gguf"))
  }

  /// A LoHa of kohya's keys for the first module of the llama model.
  private static func loha(in folder: TemporaryFolder) throws {
    var random = SeededGenerator(9)
    let stem = "lora_unet_model_layers_0_self_attn_q_proj"
    var tensors = ["hada_w1_a", "hada_w2_a"].map {
      TestTensor(name: TensorName("\(stem).\($0)"), shape: [16, 2], values: random.values(32))
    }
    tensors += ["hada_w1_b", "hada_w2_b"].map {
      TestTensor(name: TensorName("\(stem).\($0)"), shape: [2, 16], values: random.values(32))
    }
    tensors.append(TestTensor(name: TensorName("\(stem).alpha"), shape: [], values: [1]))
    try TestModels.write(tensors, to: folder("loha.safetensors"))
  }

  @Test func anyUpdateBecomesTheBestFactorsOfARank() throws {
    let folder = try TemporaryFolder()
    try Self.llama(in: folder)
    try Self.loha(in: folder)
    var dense = try #require(try deltas(of: folder("loha.safetensors")).values.first)
    let exact = try exactDecomposition(of: &dense, rank: 0, route: .singularValues)
    for rank in [1, 3, 6] {
      let report = try Self.convert(
        folder("loha.safetensors"), to: folder("lora\(rank)"), .peft
      ) {
        $0.base = folder("base")
        $0.asLowRank = true
        $0.ranks.rank = rank
        $0.adapterOptions.allowsUnmatched = false
      }
      let least = exact.singularValues.dropFirst(rank).reduce(0) { $0 + $1 * $1 }
      let entry = try #require(report.modules.first)
      #expect(entry.rank == rank)
      let captured = 1 - least / exact.squaredNorm
      #expect(abs((entry.capturedEnergy ?? -1) - captured) < 1e-6)
      let found = try #require(try deltas(of: folder("lora\(rank)")).values.first)
      let left = relativeDistance(found.elements, dense.elements)
      #expect(left <= (least / exact.squaredNorm).squareRoot() * 1.000001 + 5e-7)
    }
  }

  @Test func aResidualBaseDoesNotHelpWhereOnlyFactorsAreRead() throws {
    let folder = try TemporaryFolder()
    let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("fixtures/adapters/others/peft-residual").path
    for residual in [nil, fixture + "/residual"] {
      let error = surgeryError {
        try Self.convert(fixture + "/adapter", to: folder("out"), .kohya) {
          $0.adapterOptions.residualBase = residual
        }
      }
      #expect(error?.id == "adapter.modified-base")
      #expect(error?.hint?.hasPrefix("merge it with --residual-base and extract") == true)
    }
  }

  @Test func whatADialectCannotExpressIsRefusedWithTheWayOut() throws {
    let folder = try TemporaryFolder()
    try Self.llama(in: folder)
    try Self.loha(in: folder)
    let error = surgeryError {
      try Self.convert(folder("loha.safetensors"), to: folder("out"), .mlx) {
        $0.base = folder("base")
      }
    }
    #expect(error?.id == "adapter.inexpressible")
    #expect(error?.hint?.contains("--as lora") == true)
    let unknown = surgeryError {
      try Self.convert(folder("loha.safetensors"), to: folder("out"), .peft) {
        $0.asLowRank = true
        $0.ranks.rank = 2
      }
    }
    #expect(unknown?.id == "adapter.unknown-target")
    let unranked = surgeryError {
      try Self.convert(folder("loha.safetensors"), to: folder("out"), .kohya) {
        $0.asLowRank = true
      }
    }
    #expect(unranked?.id == "rank.missing")
    let ranked = surgeryError {
      try Self.convert(folder("adapter"), to: folder("out"), .kohya) { $0.ranks.rank = 2 }
    }
    #expect(ranked?.id == "convert.ranks")
    #expect(!folder.contents.contains("out"))
  }

  @Test func withoutADialectAnAdapterIsACheckpointLikeAnyOther() throws {
    let folder = try TemporaryFolder()
    try Self.llama(in: folder)
    try Self.convert(folder("adapter"), to: folder("plain.npz"), nil)
    let plain = try tensorBytes(folder("plain.npz"))
    #expect(try plain == tensorBytes(folder("adapter")))
  }
}
