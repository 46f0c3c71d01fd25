import Adapters
import Checkpoints
import Tensors
import Testing

/// The ambiguous and the bad cases of dialects.md, section 16: each has its id.
struct AmbiguityTests {
  typealias Tensor = TinyFiles.Tensor
  let files: TinyFiles
  let base = ["q.weight": Tensor(6, 4)]
  let pair = ["q.lora_A.weight": Tensor(2, 4), "q.lora_B.weight": Tensor(6, 2)]

  init() throws { files = try TinyFiles() }

  private func options(_ change: (inout AdapterOptions) -> Void) -> AdapterOptions {
    var options = AdapterOptions()
    change(&options)
    return options
  }

  @Test func aScaleThatNoFileSaysMustBeGiven() throws {
    let bare = try files.peft(pair, config: nil)
    #expect(try files.outcome(bare, base) == "adapter.no-scale")
    let given = options { $0.alphas = [.init(value: 4)] }
    #expect(try files.outcome(bare, base, given).hasPrefix("read"))
    let loralib = try files.write(
      "l.safetensors", ["q.lora_A": Tensor(2, 4), "q.lora_B": Tensor(6, 2)])
    #expect(try files.outcome(loralib, base) == "adapter.no-scale")
    #expect(try Adapter(opening: loralib).facts.scales == nil)
  }

  @Test func kohyaWithoutAlphaHasScaleOne() throws {
    let stem = "lora_unet_q"
    let factors = [
      "\(stem).lora_down.weight": Tensor(2, 4), "\(stem).lora_up.weight": Tensor(6, 2),
    ]
    let path = try files.write("k.safetensors", factors)
    #expect(try files.outcome(path, base).contains("1 module without alpha"))
    #expect(try Adapter(opening: path).facts.scales == [1])
    let zero = try files.write(
      "z.safetensors", factors.merging(["\(stem).alpha": Tensor(values: [0])]) { $1 })
    #expect(try files.outcome(zero, base).contains("is 0"))
    let notANumber = try files.write(
      "n.safetensors", factors.merging(["\(stem).alpha": Tensor(values: [.nan])]) { $1 })
    #expect(try files.outcome(notANumber, base) == "adapter.bad-alpha")
  }

  @Test func mlxWithScaleAndAlphaIsAmbiguous() throws {
    try files.write(
      "adapter/adapters.safetensors", ["q.lora_a": Tensor(4, 2), "q.lora_b": Tensor(2, 6)])
    try files.folder.write(
      #"{"lora_parameters":{"rank":2,"scale":10,"alpha":16}}"#, to: "adapter/adapter_config.json")
    let path = files.folder.path("adapter")
    #expect(try files.outcome(path, base) == "adapter.ambiguous-scale")
    let asItIs = options { $0.rankScale = RankScale.none }
    #expect(try Adapter(opening: path, options: asItIs).facts.scales == [10])
    let multiplied = options { $0.rankScale = .alphaOverRank }
    #expect(try Adapter(opening: path, options: multiplied).facts.scales == [80])
  }

  @Test func squareTensorsDoNotSayTheOrder() throws {
    let one = options { $0.scales = [.init(value: 1)] }
    let square = try files.write("s.safetensors", ["q.A": Tensor(4, 2), "q.B": Tensor(2, 4)])
    #expect(
      try files.outcome(square, ["q.weight": Tensor(4, 4)], one)
        == "adapter.ambiguous-orientation")
    let embedding = try files.write(
      "e.safetensors", ["wte.lora_A": Tensor(2, 4), "wte.lora_B": Tensor(4, 2)])
    #expect(
      try files.outcome(embedding, ["wte.weight": Tensor(4, 4)], one)
        == "adapter.ambiguous-orientation")
  }

  @Test func squareExpertsNeedTheVersion() throws {
    func experts(_ version: String) throws -> String {
      try files.peft(
        ["e.lora_A.weight": Tensor(6, 4), "e.lora_B.weight": Tensor(4, 6)],
        config: #"{"peft_type":"LORA","r":2,"lora_alpha":4,"target_parameters":["e.w"]\#(version)}"#
      )
    }
    let stack = ["e.w": Tensor(3, 4, 4)]
    #expect(try files.outcome(experts(""), stack) == "adapter.ambiguous-orientation")
    #expect(try files.outcome(experts(#","peft_version":"0.21.2""#), stack).hasPrefix("read"))
    let mxfp4 = [
      "e.w_blocks": Tensor(3, 4, 2, dtype: "U8"), "e.w_scales": Tensor(3, 4, dtype: "U8"),
    ]
    #expect(try files.outcome(experts(""), mxfp4) == "adapter.quantised-base")
  }

  @Test func namesThatCollideWithUnderscoresAreAmbiguous() throws {
    let path = try files.write(
      "k.safetensors",
      [
        "lora_unet_a_b.lora_down.weight": Tensor(2, 4),
        "lora_unet_a_b.lora_up.weight": Tensor(6, 2),
      ])
    #expect(
      try files.outcome(path, ["a.b.weight": Tensor(6, 4), "a_b.weight": Tensor(6, 4)])
        == "adapter.ambiguous-target")
    #expect(
      try files.outcome(path, ["a.b.weight": Tensor(6, 4), "a_b.weight": Tensor(5, 4)])
        .hasPrefix("read"))
  }

  @Test func mergedLinearNeedsItsParts() throws {
    let path = try files.write(
      "m.safetensors", ["q.lora_A": Tensor(4, 4), "q.lora_B": Tensor(8, 2)])
    let one = options { $0.alphas = [.init(value: 1)] }
    #expect(try files.outcome(path, ["q.weight": Tensor(12, 4)], one) == "adapter.need-enable-lora")
    let wrong = options {
      $0.alphas = [.init(value: 1)]
      $0.enabledParts = [.init(value: [true, true, true])]
    }
    #expect(
      try files.outcome(path, ["q.weight": Tensor(12, 4)], wrong) == "adapter.need-enable-lora")
  }

  @Test(arguments: ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"])
  func unconvertedInitialisationsChangedTheBase(_ name: String) throws {
    let path = try files.peft(
      pair, config: #"{"peft_type":"LORA","r":2,"init_lora_weights":"\#(name)"}"#)
    #expect(try files.outcome(path, base) == "adapter.modified-base")
  }

  @Test func magnitudesAndTheirFlagGoTogether() throws {
    let flagged = try files.peft(pair, config: #"{"peft_type":"LORA","r":2,"use_dora":true}"#)
    #expect(try files.outcome(flagged, base) == "adapter.incomplete")
    let unflagged = try files.peft(
      pair.merging(["q.lora_magnitude_vector": Tensor(6)]) { $1 })
    #expect(try files.outcome(unflagged, base).contains("no use_dora"))
  }

  @Test func whatIsMissingTwiceOrUnknownIsNamed() throws {
    let half = try files.peft(["q.lora_B.weight": Tensor(6, 2)])
    #expect(try files.outcome(half, base) == "adapter.incomplete")
    let twice = try files.peft(pair.merging(["q.lora_A.default.weight": Tensor(2, 4)]) { $1 })
    #expect(try files.outcome(twice, base) == "adapter.conflict")
    let several = try files.peft([
      "q.lora_A.one.weight": Tensor(2, 4), "q.lora_B.two.weight": Tensor(6, 2),
    ])
    #expect(try files.outcome(several, base) == "adapter.conflict")
    let unknown = try files.peft(pair.merging(["q.lora_C.weight": Tensor(2, 4)]) { $1 })
    #expect(try files.outcome(unknown, base) == "adapter.unknown-key")
    let elsewhere = try files.peft(pair)
    #expect(try files.outcome(elsewhere, ["k.weight": Tensor(6, 4)]) == "adapter.unknown-target")
    let allowed = options { $0.allowsUnmatched = true }
    #expect(try files.outcome(elsewhere, ["k.weight": Tensor(6, 4)], allowed).contains("left out"))
    let renamed = options { $0.renamings = [.init(pattern: "^q$", replacement: "k")] }
    #expect(try files.outcome(elsewhere, ["k.weight": Tensor(6, 4)], renamed).hasPrefix("read"))
  }

  @Test func basesThatDoNotFitAreRefused() throws {
    let path = try files.peft(pair)
    #expect(try files.outcome(path, ["q.weight": Tensor(6, 5)]) == "adapter.shape")
    #expect(
      try files.outcome(path, ["q.weight": Tensor(6, 4, dtype: "I8")]) == "adapter.quantised-base")
    for codes in ["q.qweight", "q.weight_packed", "q.W_q", "q.weight._data"] {
      let quantised = [codes: Tensor(1, 6, dtype: "I32")]
      #expect(try files.outcome(path, quantised) == "adapter.quantised-base")
      let allowed = options { $0.allowsUnmatched = true }
      #expect(try files.outcome(path, quantised, allowed).contains("left out"))
    }
    let transposed = options { $0.fanInFanOut = [.init(value: true)] }
    #expect(try files.outcome(path, base, transposed) == "adapter.shape")
    let head = try files.peft([
      "lm_head.lora_A.weight": Tensor(2, 4), "lm_head.lora_B.weight": Tensor(7, 2),
    ])
    #expect(try files.outcome(head, ["lm_head.weight": Tensor(6, 4)]) == "adapter.vocab")
    let integers = try files.peft(
      pair.merging(["q.lora_A.weight": Tensor(2, 4, dtype: "I32")]) { $1 })
    #expect(try files.outcome(integers, base) == "adapter.dtype")
  }

  @Test func filesThatAreNoAdaptersSaySo() throws {
    let model = try files.write("m.safetensors", ["q.weight": Tensor(6, 4)])
    #expect(try files.outcome(model, base) == "adapter.not-adapter")
    #expect(!Adapter.isAdapter(at: model))
    let control = try files.write(
      "c.safetensors",
      ["lllite_unet_q.down.0.weight": Tensor(2, 4), "lora_unet_q.lora_down.weight": Tensor(2, 4)])
    #expect(try files.outcome(control, base) == "adapter.not-adapter")
    let list = try files.write(
      "r.safetensors", ["0x55d": Tensor(2)], metadata: ["__r__": #"{"type":"list"}"#])
    #expect(try files.outcome(list, base) == "adapter.r-list")
    let mixed = try files.write(
      "x.safetensors",
      [
        "lora_unet_input_blocks_1.alpha": Tensor(),
        "lora_unet_down_blocks_1.lora_down.weight": Tensor(2, 4),
      ])
    #expect(try files.outcome(mixed, base) == "adapter.conflict")
  }

  @Test(arguments: ["PROMPT_TUNING", "XLORA", "POLY"])
  func methodsThatChangeNoWeightsAreNotMergeable(_ type: String) throws {
    let path = try files.peft(pair, config: #"{"peft_type":"\#(type)"}"#)
    #expect(try files.outcome(path, base) == "adapter.not-mergeable")
  }

  @Test func aModuleFusedInTheAdapterNeedsAKindThatCanBeCut() throws {
    let stem = "lora_unet_double_blocks_0_img_attn_qkv"
    let path = try files.write(
      "f.safetensors",
      [
        "\(stem).hada_w1_a": Tensor(12, 2), "\(stem).hada_w1_b": Tensor(2, 4),
        "\(stem).hada_w2_a": Tensor(12, 2), "\(stem).hada_w2_b": Tensor(2, 4),
      ])
    let split = Dictionary(
      uniqueKeysWithValues: ["q", "k", "v"].map {
        ("transformer_blocks.0.attn.to_\($0).weight", Tensor(4, 4))
      })
    #expect(try files.outcome(path, split) == "adapter.unsupported-layout")
  }

  @Test func twoTensorsForOneAreAConflict() throws {
    let twice = try files.write(
      "twice.safetensors",
      ["lora_unet_q.set_weight": Tensor(6, 4), "lycoris_q.set_weight": Tensor(6, 4)])
    var options = AdapterOptions()
    options.dialect = .kohya
    #expect(try files.outcome(twice, base, options) == "adapter.conflict")
  }

  @Test func weightsOfOutputsMustBeAsMany() throws {
    let few = try files.write(
      "few.safetensors",
      ["lora_unet_q.weight": Tensor(5), "lora_unet_q.on_input": Tensor(values: [0])])
    #expect(try files.outcome(few, base) == "adapter.shape")
  }
}
