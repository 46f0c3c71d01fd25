import Adapters
import Checkpoints
import LinearAlgebra
import LoRASurgery
import Tensors
import Testing

/// What is written in another dialect changes the base as what was read.
struct RoundTripTests {
  struct Case: CustomTestStringConvertible {
    var fixture: String
    var dialect: Dialect
    /// Whether the factors are only moved, so that the merge is equal bit for bit.
    var isExact = true
    var testDescription: String { "\(fixture) as \(dialect.rawValue)" }
  }

  static let cases: [Case] = [
    Case(fixture: "peft/lora-linear", dialect: .peft),
    Case(fixture: "peft/lora-linear", dialect: .kohya),
    Case(fixture: "peft/lora-linear", dialect: .diffusers),
    Case(fixture: "peft/lora-linear", dialect: .comfyui),
    Case(fixture: "peft/lora-linear", dialect: .loralib),
    Case(fixture: "peft/lora-linear", dialect: .mlx),
    Case(fixture: "peft/lora-rslora-patterns", dialect: .peft, isExact: false),
    Case(fixture: "peft/lora-rslora-patterns", dialect: .kohya, isExact: false),
    Case(fixture: "peft/lora-rslora-patterns", dialect: .diffusers, isExact: false),
    Case(fixture: "peft/lora-rslora-patterns", dialect: .loralib, isExact: false),
    Case(fixture: "peft/lora-rslora-patterns", dialect: .mlx, isExact: false),
    Case(fixture: "peft/lora-conv1d-gpt2", dialect: .peft),
    Case(fixture: "peft/lora-conv1d-gpt2", dialect: .loralib),
    Case(fixture: "peft/lora-conv", dialect: .peft),
    Case(fixture: "peft/lora-conv", dialect: .kohya),
    Case(fixture: "peft/lora-conv", dialect: .diffusers),
    Case(fixture: "peft/lora-conv", dialect: .comfyui),
    Case(fixture: "peft/lora-embedding", dialect: .peft),
    Case(fixture: "peft/lora-embedding", dialect: .loralib),
    Case(fixture: "peft/lora-embedding", dialect: .mlx),
    Case(fixture: "peft/lora-experts", dialect: .peft),
    Case(fixture: "peft/experts-in-by-out", dialect: .peft),
    Case(fixture: "peft/experts-in-by-out-unmarked", dialect: .peft),
    Case(fixture: "peft/lora-bias", dialect: .peft),
    Case(fixture: "peft/lora-bias-all", dialect: .peft),
    Case(fixture: "peft/lora-modules-to-save", dialect: .peft),
    Case(fixture: "peft/dora-linear", dialect: .peft),
    Case(fixture: "peft/dora-linear", dialect: .mlx),
    Case(fixture: "peft/dora-linear", dialect: .kohya, isExact: false),
    Case(fixture: "peft/dora-linear", dialect: .diffusers),
    Case(fixture: "peft/dora-conv", dialect: .peft),
    Case(fixture: "peft/dora-embedding", dialect: .peft),
    Case(fixture: "peft/loha", dialect: .peft),
    Case(fixture: "peft/loha-effective-conv", dialect: .peft),
    Case(fixture: "peft/lokr", dialect: .peft),
    Case(fixture: "peft/lokr-both", dialect: .peft),
    Case(fixture: "peft/lokr-effective-conv", dialect: .peft),
    Case(fixture: "peft/ia3", dialect: .peft),
    Case(fixture: "peft/ia3-conv", dialect: .peft),
    Case(fixture: "peft/oft", dialect: .peft),
    Case(fixture: "peft/oft-cayley", dialect: .peft),
    Case(fixture: "peft/oft-shared-coft", dialect: .peft),
    Case(fixture: "others/lycoris-loha", dialect: .peft, isExact: false),
    Case(fixture: "others/lycoris-loha-tucker", dialect: .peft, isExact: false),
    Case(fixture: "others/lycoris-lokr", dialect: .peft, isExact: false),
    Case(fixture: "others/lycoris-lokr-both", dialect: .peft, isExact: false),
    Case(fixture: "others/lycoris-lokr-full", dialect: .peft, isExact: false),
    Case(fixture: "others/lycoris-lokr-tucker", dialect: .peft, isExact: false),
    Case(fixture: "others/lycoris-ia3-input", dialect: .peft, isExact: false),
    Case(fixture: "peft/loha", dialect: .kohya, isExact: false),
    Case(fixture: "peft/lokr", dialect: .kohya, isExact: false),
    Case(fixture: "others/lycoris-locon-tucker", dialect: .kohya),
    Case(fixture: "others/lycoris-loha-tucker", dialect: .kohya),
    Case(fixture: "others/lycoris-lokr-tucker", dialect: .kohya),
    Case(fixture: "others/lycoris-lokr-full", dialect: .kohya),
    Case(fixture: "others/lycoris-full", dialect: .kohya),
    Case(fixture: "others/lycoris-ia3", dialect: .comfyui),
    Case(fixture: "others/lycoris-locon-dora-in", dialect: .comfyui),
    Case(fixture: "others/mlx-dora", dialect: .mlx),
    Case(fixture: "others/comfyui", dialect: .comfyui),
  ]

  @Test(arguments: cases)
  func writtenAsRead(_ one: Case) throws {
    let folder = Fixtures.path(one.fixture)
    let files = Fixtures.folders(in: one.fixture)
    let base = try Checkpoint(
      opening: "\(folder)/\(files.contains("base") ? "base" : "base.safetensors")")
    let read = try Adapter(
      opening: "\(folder)/\(files.contains("adapter") ? "adapter" : "adapter.safetensors")"
    ).resolved(against: base)
    let output = try TemporaryFolder()
    let path = output.path(
      one.dialect == .peft || one.dialect == .mlx ? "written" : "written.safetensors")
    let plan = try read.inBaseWords.plan(
      to: path, options: AdapterWritingOptions(dialect: one.dialect))
    try plan.write(replacing: false, inputs: read.adapter.inputs, Execution())

    var options = AdapterOptions()
    if one.dialect == .loralib {
      // The note says which alpha to build the layers with; without a common one the scale is in the factors.
      let alpha = plan.notes.first?.split(separator: "=").last.flatMap { Double($0) }
      if let alpha {
        options.alphas = [.init(value: alpha)]
      } else {
        options.scales = [.init(value: 1)]
      }
    }
    let adapter = try Adapter(opening: path, options: options)
    #expect(adapter.provenance.dialect == one.dialect)
    let again = try adapter.resolved(against: base, options: options)
    #expect(again.tensors.map(\.name) == read.tensors.map(\.name))
    var generator = SeededGenerator(seed: 1)
    let before = try Merging.merged(read, as: Double.self, using: &generator)
    let after = try Merging.merged(again, as: Double.self, using: &generator)
    for (name, values) in before {
      let difference = Merging.largestDifference(values, after[name] ?? [])
      #expect(difference <= (one.isExact ? 0 : 4e-7), "\(name)")
    }
  }

  @Test(
    "What a dialect cannot hold is refused before anything is written",
    arguments: [
      ("others/lycoris-ia3", Dialect.peft), ("others/lycoris-oft", .peft), ("peft/hira", .kohya),
      ("peft/lora-modules-to-save", .kohya),
      ("peft/oft", .mlx), ("peft/lora-conv", .loralib), ("others/lycoris-full", .peft),
      ("peft/lora-tokens", .diffusers), ("peft/lora-conv", .mlx), ("peft/lora-experts", .kohya),
      ("peft/lora-experts", .mlx),
    ])
  func inexpressible(_ fixture: String, _ dialect: Dialect) throws {
    let files = Fixtures.folders(in: fixture)
    let folder = Fixtures.path(fixture)
    let base = try Checkpoint(
      opening: "\(folder)/\(files.contains("base") ? "base" : "base.safetensors")")
    let read = try Adapter(
      opening: "\(folder)/\(files.contains("adapter") ? "adapter" : "adapter.safetensors")"
    ).resolved(against: base)
    let error = #expect(throws: SurgeryError.self) {
      try read.inBaseWords.plan(to: "out", options: AdapterWritingOptions(dialect: dialect))
    }
    #expect(error?.id == "adapter.inexpressible")
  }

  @Test func oneFileHoldsItsConfiguration() throws {
    let folder = Fixtures.path("peft/lora-rslora-patterns")
    let base = try Checkpoint(opening: "\(folder)/base")
    let read = try Adapter(opening: "\(folder)/adapter").resolved(against: base)
    let output = try TemporaryFolder()
    let plan = try read.inBaseWords.plan(
      to: output.path("one.safetensors"), options: AdapterWritingOptions(dialect: .peft))
    try plan.write(replacing: false, inputs: [], Execution())
    let again = try Adapter(opening: output.path("one.safetensors"))
    #expect(again.facts.ranks == read.adapter.facts.ranks)
    let scales = zip(again.facts.scales ?? [], read.adapter.facts.scales ?? [])
    #expect(scales.allSatisfy { ($0 - $1).magnitude < 1e-12 })
  }

  @Test func factorsAreWrittenInAnotherDtype() throws {
    let folder = Fixtures.path("peft/lora-linear")
    let base = try Checkpoint(opening: "\(folder)/base")
    let read = try Adapter(opening: "\(folder)/adapter").resolved(against: base)
    let output = try TemporaryFolder()
    var options = AdapterWritingOptions(dialect: .kohya)
    options.dtype = .bf16
    options.prefix = "lora_te"
    let plan = try read.inBaseWords.plan(to: output.path("k.safetensors"), options: options)
    try plan.write(replacing: false, inputs: [], Execution())
    let again = try Adapter(opening: output.path("k.safetensors"))
    #expect(again.facts.dtype == "BF16")
    #expect(again.modules.allSatisfy { $0.name.hasPrefix("lora_te_") })
  }
}

/// Adapters that extraction makes: named by the base's tensors, factors of any source.
struct WrittenNamesTests {
  private func pair(_ files: TinyFiles, rows: Int, columns: Int) throws -> LowRank {
    let path = try files.write(
      "f.safetensors", ["up": .init(rows, 2), "down": .init(2, columns)])
    let stored = try Checkpoint(opening: path)
    return try LowRank(
      up: Factor(try #require(stored["up"])), down: Factor(try #require(stored["down"])))
  }

  private func names(
    _ modules: [ModuleUpdate], _ dialect: Dialect, path: String = "out.safetensors"
  ) throws -> [String] {
    let adapter = Adapter(
      path: "extracted", modules: modules,
      provenance: .init(dialect: dialect, reason: "extracted"))
    let plan = try adapter.plan(to: path, options: AdapterWritingOptions(dialect: dialect))
    return plan.plan.files.flatMap { $0.tensors.map(\.name.text) }
  }

  @Test func embeddingsAndComponentsGetTheirKeys() throws {
    let files = try TinyFiles()
    let update = try pair(files, rows: 6, columns: 4)
    let embedding = ModuleUpdate(changing: "model.embed_tokens.weight", by: update)
    #expect(
      try names([embedding], .peft) == [
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.embed_tokens.lora_embedding_B",
      ])
    let unet = ModuleUpdate(changing: "unet/mid_block.proj_in.weight", by: update)
    let encoder = ModuleUpdate(changing: "text_encoder/text_model.q_proj.weight", by: update)
    #expect(try names([unet], .peft).contains("base_model.model.mid_block.proj_in.lora_A.weight"))
    #expect(
      try names([unet, encoder], .kohya).filter { $0.hasSuffix("alpha") } == [
        "lora_unet_mid_block_proj_in.alpha", "lora_te_text_model_q_proj.alpha",
      ])
    #expect(
      try names([unet, encoder], .diffusers).filter { $0.hasSuffix("lora_A.weight") } == [
        "unet.mid_block.proj_in.lora_A.weight", "text_encoder.text_model.q_proj.lora_A.weight",
      ])
    #expect(throws: SurgeryError.self) { try names([unet, encoder], .peft) }
    #expect(throws: SurgeryError.self) {
      try names(
        [
          ModuleUpdate(changing: "a.b.weight", by: update),
          ModuleUpdate(changing: "a_b.weight", by: update),
        ], .kohya)
    }
  }

  @Test func aPartOfAFusedTensorIsNotWrittenAsTheWhole() throws {
    let folder = Fixtures.path("others/diffusers-split-on-fused")
    let base = try Checkpoint(opening: "\(folder)/base.safetensors")
    let resolved = try Adapter(opening: "\(folder)/adapter.safetensors").resolved(against: base)
    let error = #expect(throws: SurgeryError.self) {
      try resolved.inBaseWords.plan(to: "out", options: AdapterWritingOptions(dialect: .peft))
    }
    #expect(error?.id == "adapter.inexpressible")
  }
}
