import Adapters
import Checkpoints
import LinearAlgebra
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
    Case(fixture: "peft/lora-bias", dialect: .peft),
    Case(fixture: "peft/lora-bias-all", dialect: .peft),
    Case(fixture: "peft/lora-modules-to-save", dialect: .peft),
    Case(fixture: "peft/dora-linear", dialect: .peft),
    Case(fixture: "peft/dora-linear", dialect: .mlx),
    Case(fixture: "peft/dora-linear", dialect: .kohya, isExact: false),
    Case(fixture: "peft/dora-linear", dialect: .diffusers),
    Case(fixture: "peft/dora-conv", dialect: .peft),
    Case(fixture: "peft/dora-embedding", dialect: .peft),
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
    try plan.write(replacing: false, inputs: read.adapter.inputs, interruption: Interruption())

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
      ("peft/ia3", Dialect.peft), ("peft/hira", .kohya), ("peft/lora-modules-to-save", .kohya),
      ("peft/oft", .mlx), ("peft/lora-conv", .loralib), ("others/lycoris-full", .peft),
      ("peft/lora-tokens", .diffusers), ("peft/lora-conv", .mlx),
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
    try plan.write(replacing: false, inputs: [], interruption: Interruption())
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
    try plan.write(replacing: false, inputs: [], interruption: Interruption())
    let again = try Adapter(opening: output.path("k.safetensors"))
    #expect(again.facts.dtype == "BF16")
    #expect(again.modules.allSatisfy { $0.name.hasPrefix("lora_te_") })
  }
}
