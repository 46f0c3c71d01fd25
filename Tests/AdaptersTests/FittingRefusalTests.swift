import Adapters
import Checkpoints
import Tensors
import Testing

/// Adapters that are sound by themselves and do not fit the base that they are to change: each says both shapes.
struct FittingRefusalTests {
  typealias Tensor = TinyFiles.Tensor

  /// A base, an adapter, and what is said of them.
  struct Case: CustomTestStringConvertible, Sendable {
    var id = "adapter.shape"
    var kind = SurgeryError.Kind.data
    /// The tensor of the adapter that is named.
    var tensor: String
    /// Words of the message and its hint.
    var says: [String]
    var adapter: [String: [Int]]
    /// The file's name.
    var name = "a.safetensors"
    /// PEFT's configuration, where there is one.
    var config: String?
    var base: [String: [Int]]
    /// The fields of the base's configuration.
    var model = ""
    var dialect: Dialect?
    var enabledParts: [Bool]?

    var testDescription: String { "\(id) \(says.first ?? "")" }
  }

  private static let split = ["q", "k", "v"].map { "transformer_blocks.0.attn.to_\($0).weight" }
  private static let fused = "lora_unet_double_blocks_0_img_attn_qkv"
  private static let pieces = [
    "model.layers.0.self_attn.q_proj.weight": [8, 8],
    "model.layers.0.self_attn.k_proj.weight": [4, 8],
    "model.layers.0.self_attn.v_proj.weight": [4, 8],
  ]
  private static let twoParts = [
    "transformer.h.0.attn.qkv.lora_A": [4, 8], "transformer.h.0.attn.qkv.lora_B": [12, 2],
  ]
  private static let queries = [
    "layers.0.attn.q_proj.lora_a.weight": [2, 8], "layers.0.attn.q_proj.lora_b.weight": [8, 2],
  ]

  @Test(arguments: [
    Case(
      tensor: "base_model.model.e.lora_A.weight",
      says: ["expected [3, 5, 4] of base tensor e.w", "found 3 experts of 4 x 6 (out x in)"],
      adapter: [
        "base_model.model.e.lora_A.weight": [6, 6], "base_model.model.e.lora_B.weight": [4, 6],
      ], name: "adapter_model.safetensors",
      config: #"{"peft_type":"LORA","r":2,"lora_alpha":4,"target_parameters":["e.w"]}"#,
      base: ["e.w": [3, 5, 4]]),
    Case(
      id: "adapter.ambiguous-orientation", tensor: "lycoris_q.lora_down.weight",
      says: ["two modules disagree", "found q.weight", "--fan-in-fan-out"],
      adapter: [
        "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
        "lycoris_q.lora_down.weight": [2, 6], "lycoris_q.lora_up.weight": [4, 2],
      ], base: ["q.weight": [6, 4]], dialect: .kohya),
    Case(
      id: "adapter.unsupported-layout", kind: .unsupported, tensor: "\(fused).lora_down.weight",
      says: ["changes transposed", "found transformer_blocks.0.attn.to_q.weight"],
      adapter: ["\(fused).lora_down.weight": [2, 12], "\(fused).lora_up.weight": [4, 2]],
      base: Dictionary(uniqueKeysWithValues: split.map { ($0, [4, 4]) })),
    // The adapter itself replaces one of the pieces by a tensor of fewer rows.
    Case(
      tensor: "\(fused).lora_down.weight", says: ["expected 10 rows", "found 12 rows"],
      adapter: [
        "\(fused).lora_down.weight": [2, 4], "\(fused).lora_up.weight": [12, 2],
        "lora_unet_transformer_blocks_0_attn_to_v.set_weight": [2, 4],
      ], base: Dictionary(uniqueKeysWithValues: split.map { ($0, [4, 4]) }), dialect: .kohya),
    Case(
      tensor: "q.A",
      says: [
        "no product of the factors", "[6, 4] of base tensor q.weight", "[4, 2] and [2, 5]",
        "--pair",
      ], adapter: ["q.A": [4, 2], "q.B": [2, 5]], base: ["q.weight": [6, 4]]),
    Case(
      id: "adapter.need-enable-lora", tensor: "transformer.h.0.attn.qkv.lora_A",
      says: [
        "does not say which parts", "expected 2 of 3 parts of [8, 4, 4] rows",
        "found 12 rows of transformer.h.0.attn.qkv.lora_B", "--enable-lora",
      ], adapter: twoParts, base: pieces),
    Case(
      id: "adapter.need-enable-lora", tensor: "transformer.h.0.attn.qkv.lora_A",
      says: ["the enabled parts do not fit", "found 12 rows"], adapter: twoParts, base: pieces,
      enabledParts: [false, true, true]),
    Case(
      id: "adapter.no-heads", tensor: "layers.0.attn.q_proj.lora_b.weight",
      says: ["head by head", "num_attention_heads in the base's config.json", "found none"],
      adapter: queries, base: pieces),
    Case(
      id: "adapter.shape", tensor: "layers.0.attn.q_proj.lora_b.weight",
      says: ["whole heads", "expected a multiple of 2 · 3 heads", "found 8 rows"], adapter: queries,
      base: pieces,
      model: #""num_attention_heads":3"#),
  ])
  func areRefused(_ refused: Case) throws {
    let files = try TinyFiles()
    func tensors(_ shapes: [String: [Int]]) -> [String: Tensor] {
      shapes.mapValues { shape in
        var tensor = Tensor()
        tensor.shape = shape
        return tensor
      }
    }
    let path = try files.write("adapter/\(refused.name)", tensors(refused.adapter))
    if let config = refused.config {
      try files.folder.write(config, to: "adapter/adapter_config.json")
    }
    try files.write("base/model.safetensors", tensors(refused.base))
    try files.folder.write("{\(refused.model)}", to: "base/config.json")
    var options = AdapterOptions()
    options.dialect = refused.dialect
    options.scales = [.init(value: 1)]
    options.enabledParts = refused.enabledParts.map { [.init(value: $0)] } ?? []
    let base = try Checkpoint(opening: files.folder.path("base"))
    let adapter = try Adapter(
      opening: refused.config == nil ? path : files.folder.path("adapter"), options: options)
    let error = #expect(throws: SurgeryError.self) {
      _ = try adapter.resolved(against: base, options: options)
    }
    #expect(error?.id == refused.id && error?.kind == refused.kind, "\(String(describing: error))")
    #expect(error?.file?.hasPrefix(files.folder.path("adapter")) == true)
    #expect(error?.tensor == refused.tensor)
    for words in refused.says {
      let text = "\(error?.description ?? "resolved") \(error?.hint ?? "")"
      #expect(text.contains(words), "\(text)")
    }
  }

  /// Who asks for numbers of a pair that no base has oriented yet gets none.
  @Test func aPairWithoutABaseIsNotComputed() throws {
    let files = try TinyFiles()
    let path = try files.write("p.safetensors", ["q.A": Tensor(4, 2), "q.B": Tensor(2, 4)])
    let module = try #require(try Adapter(opening: path).modules.first)
    let error = #expect(throws: SurgeryError.self) {
      _ = try module.update.loaded(scale: 1, as: Float.self)
    }
    #expect(error?.id == "adapter.ambiguous-orientation" && error?.tensor == "q.A")
    #expect(error?.hint?.contains("--base") == true)
  }

  /// Views of stored tensors are there for whoever uses the library, with any tensor: bytes are only cut where elements are
  /// whole bytes, numbers only made of numbers.
  @Test func viewsOfWhatIsNoMatrixOfNumbers() throws {
    let files = try TinyFiles()
    let stored = try Checkpoint(
      opening: try files.write(
        "x.safetensors", ["f4": Tensor(4, 4, dtype: "F4"), "i32": Tensor(4, 4, dtype: "I32")]))
    let small = Factor(try #require(stored["f4"]))
    let unsupported = #expect(throws: SurgeryError.self) { _ = try small.rows(0..<2).bytes() }
    #expect(unsupported?.id == "adapter.unsupported" && unsupported?.kind == .unsupported)
    #expect(unsupported?.tensor == "f4" && unsupported?.found == "F4" && unsupported?.file != nil)
    let whole = Factor(try #require(stored["i32"]))
    let wrong = #expect(throws: SurgeryError.self) { _ = try whole.matrix(of: Float.self) }
    #expect(wrong?.id == "adapter.dtype" && wrong?.found == "I32" && wrong?.tensor == "i32")
    #expect(try whole.bytes().count == 64)
  }
}
