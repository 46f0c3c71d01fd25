import Adapters
import Checkpoints
import Tensors
import Testing

/// Names that adapter and base spell differently, and bases that are not what the adapter was trained on.
struct NamingTests {
  typealias Tensor = TinyFiles.Tensor
  let files: TinyFiles
  let base = ["q.weight": Tensor(6, 4)]
  let pair = ["q.lora_A.weight": Tensor(2, 4), "q.lora_B.weight": Tensor(6, 2)]

  init() throws { files = try TinyFiles() }

  @Test func renamingsAreAppliedBeforeTheBaseIsSearched() throws {
    let path = try files.peft(pair)
    let other = ["layers.0.query.weight": Tensor(6, 4)]
    #expect(try files.outcome(path, other) == "adapter.unknown-target")
    var options = AdapterOptions()
    options.renamings = [.init(pattern: "^q$", replacement: "layers.0.query")]
    #expect(try files.outcome(path, other, options).hasPrefix("read"))
  }

  @Test func adaptersMayNameTensorsWithTheirComponent() throws {
    let name = "model.diffusion_model.out.q"
    let base = ["\(name).weight": Tensor(6, 4)]
    for stem in [name, "out.q"] {
      let path = try files.peft(
        Dictionary(
          uniqueKeysWithValues: pair.map { ("\(stem)\($0.key.dropFirst())", $0.value) }))
      #expect(try files.outcome(path, base) == "read: ")
    }
  }

  @Test func anAdapterWithoutTensorsIsNoAdapterOfAnything() throws {
    #expect(try files.outcome(try files.peft([:]), base) == "adapter.empty")
  }

  @Test(arguments: ["GLORA", "RANDLORA", "FOURIERFT", "ROAD", "OSF", "BONE", "NOVEL"])
  func typesThatAreNotComputedAreNamedBeforeTheirKeys(_ type: String) throws {
    let path = try files.peft(
      ["q.\(type.lowercased())_A": Tensor(2)], config: #"{"peft_type":"\#(type)"}"#)
    let error = #expect(throws: SurgeryError.self) { try Adapter(opening: path) }
    #expect(error?.kind == .unsupported)
    #expect(error?.found == "peft_type \(type)")
  }

  @Test(arguments: ["use_qalora", "arrow_config", "alora_invocation_tokens", "kasa_config"])
  func variantsOfLoRAAreRefusedByName(_ field: String) throws {
    let path = try files.peft(
      pair, config: #"{"peft_type":"LORA","r":2,"lora_alpha":4,"\#(field)":{"x":1}}"#)
    let error = #expect(throws: SurgeryError.self) { try Adapter(opening: path) }
    #expect(error?.kind == .unsupported)
    #expect(error?.what.contains(field) == true)
  }

  @Test func aResidualBaseMustHaveTheTensors() throws {
    let path = try files.peft(
      pair, config: #"{"peft_type":"LORA","r":2,"init_lora_weights":"pissa"}"#)
    var options = AdapterOptions()
    options.residualBase = try files.write("residual.safetensors", ["q.weight": Tensor(6, 4)])
    #expect(try files.outcome(path, base, options).hasPrefix("read"))
    options.residualBase = try files.write("other.safetensors", ["k.weight": Tensor(6, 4)])
    #expect(try files.outcome(path, base, options) == "adapter.modified-base")
  }

  @Test func anEmbeddingMayNotOutgrowItsHead() throws {
    let path = try files.peft(["model.embed_tokens.weight": Tensor(9, 4)])
    let embedding = Tensor(8, 4)
    #expect(try files.outcome(path, ["model.embed_tokens.weight": embedding]).hasPrefix("read"))
    let both = ["model.embed_tokens.weight": embedding, "lm_head.weight": embedding]
    #expect(try files.outcome(path, both) == "adapter.vocab")
  }

  @Test func aTensorIsNeverMadeSmaller() throws {
    let stem = "diffusion_model.x"
    let path = try files.write(
      "c.safetensors",
      [
        "\(stem).lora_A.weight": Tensor(2, 3), "\(stem).lora_B.weight": Tensor(6, 2),
        "\(stem).reshape_weight": Tensor(2, values: [6, 3]),
      ])
    let base = ["model.diffusion_model.x.weight": Tensor(6, 4)]
    #expect(try files.outcome(path, base) == "adapter.shape")
  }

  @Test func aBaseThatCallsItselfOtherwiseIsTold() throws {
    let path = try files.peft(
      pair,
      config:
        #"{"peft_type":"LORA","r":2,"lora_alpha":4,"base_model_name_or_path":"org/Wanted-7B"}"#)
    func warnings(_ name: String) throws -> [String] {
      let weights = try files.write("\(name)/model.safetensors", base)
      try files.folder.write(
        #"{"model_type":"net","_name_or_path":"/models/\#(name)"}"#, to: "\(name)/config.json")
      let folder = String(weights.dropLast("/model.safetensors".count))
      return try Adapter(opening: path).resolved(against: Checkpoint(opening: folder)).warnings
    }
    #expect(try warnings("wanted-7b").isEmpty)
    #expect(try warnings("Another").contains { $0.contains("org/Wanted-7B") })
  }

  /// The hash is that of 64 KiB of the floats 0, 1, 2, … from the first MiB on, by Python's hashlib.
  @Test func aBaseOfAnotherHashIsTold() throws {
    let rows = 576
    let values = (0..<rows * 512).map { Float($0) }
    let base = try files.write(
      "model.safetensors", ["net.q.weight": Tensor(rows, 512, values: values)])
    func warnings(_ hash: String, against path: String) throws -> [String] {
      let adapter = try files.write(
        "k.safetensors",
        [
          "lora_unet_net_q.lora_down.weight": Tensor(2, 512),
          "lora_unet_net_q.lora_up.weight": Tensor(rows, 2),
          "lora_unet_net_q.alpha": Tensor(values: [2]),
        ], metadata: ["ss_sd_model_hash": hash, "ss_sd_model_name": "wanted.safetensors"])
      return try Adapter(opening: adapter).resolved(against: Checkpoint(opening: path)).warnings
    }
    #expect(try warnings("042578be", against: base).isEmpty)
    let told = try warnings("0123abcd", against: base)
    #expect(told.count == 1)
    #expect(["wanted.safetensors", "0123abcd", "042578be"].allSatisfy { told[0].contains($0) })
    // A file without the piece that is hashed has no hash.
    let short = try files.write(
      "short.safetensors", ["net.q.weight": Tensor(rows, 512, dtype: "F8_E4M3")])
    #expect(try warnings("0123abcd", against: short).isEmpty)
  }

  @Test func anAdapterOfANameLiesInAFolderOfItsOwn() throws {
    let tensors = Dictionary(
      uniqueKeysWithValues: pair.map { ("base_model.model.\($0.key)", $0.value) })
    for name in ["mine", "yours"] {
      try files.write("saved/\(name)/adapter_model.safetensors", tensors)
      try files.folder.write(
        #"{"peft_type":"LORA","r":2,"lora_alpha":4}"#, to: "saved/\(name)/adapter_config.json")
      let found = try? Adapter(opening: files.folder.path("saved"))
      #expect((found != nil) == (name == "mine"), "one is taken, of several none")
    }
  }
}
