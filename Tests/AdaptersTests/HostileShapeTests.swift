import Adapters
import Checkpoints
import Tensors
import Testing

/// Shapes that no library writes, of which a product, a quotient or a loop could crash or never end.
struct HostileShapeTests {
  typealias Tensor = TinyFiles.Tensor

  /// An adapter whose file is well-formed and whose shapes are not.
  struct Case: CustomTestStringConvertible, Sendable {
    var id = "adapter.shape"
    /// The tensor that is named.
    var tensor: String
    var tensors: [String: [Int]]
    var integers: Set<String> = []
    /// The fields of adapter_config.json; one file of kohya's where there is none.
    var config: String?
    var name = "adapter_model.safetensors"

    var testDescription: String { "\(tensor) \(tensors[tensor] ?? [])" }
  }

  static let huge = 1 << 40

  @Test(arguments: [
    Case(
      tensor: "base_model.model.q.miss_block", tensors: ["base_model.model.q.miss_block": [0, 6]],
      config: #""peft_type":"MISS","r":2"#),
    Case(
      tensor: "base_model.model.q.miss_block", tensors: ["base_model.model.q.miss_block": [2, 0]],
      config: #""peft_type":"MISS","r":2,"init_weights":"mini""#),
    Case(
      tensor: "base_model.model.q.vblora_logits_A_topk_weights",
      tensors: [
        "base_model.vblora_vector_bank": [4, 2],
        "base_model.model.q.vblora_logits_A_topk_indices": [2, 2, 0],
        "base_model.model.q.vblora_logits_A_topk_weights": [2, 2, 0],
        "base_model.model.q.vblora_logits_B_topk_indices": [3, 2, 0],
        "base_model.model.q.vblora_logits_B_topk_weights": [3, 2, 0],
      ],
      integers: [
        "base_model.model.q.vblora_logits_A_topk_indices",
        "base_model.model.q.vblora_logits_B_topk_indices",
      ], config: #""peft_type":"VBLORA","r":2"#),
    Case(
      tensor: "base_model.model.q.gralora_B",
      tensors: [
        "base_model.model.q.gralora_A": [1 << 20, 0, 0],
        "base_model.model.q.gralora_B": [1 << 20, 0, 1],
      ], config: #""peft_type":"GRALORA","r":4"#),
    Case(
      tensor: "base_model.model.q.lora_B.weight",
      tensors: [
        "base_model.model.q.lora_A.weight": [0, 4], "base_model.model.q.lora_B.weight": [6, 0],
      ],
      config: #""peft_type":"LORA","r":2,"use_bdlora":"#
        + #"{"target_modules_bd_a":["q"],"nblocks":2000000000}"#),
    Case(
      tensor: "base_model.model.q.lora_B.weight",
      tensors: [
        "base_model.model.q.lora_A.weight": [2, 4, 1], "base_model.model.q.lora_B.weight": [6, 2],
      ], config: #""peft_type":"LORA","r":2"#),
    Case(
      tensor: "base_model.model.q.experts.w1.lora_A.weight",
      tensors: [
        "base_model.model.q.experts.w1.lora_A.weight": [2, 0, 4],
        "base_model.model.q.experts.w1.lora_B.weight": [2, 6, 0],
      ], config: #""r":2"#),
    Case(
      tensor: "base_model.model.q.experts.w1.lora_B.weight",
      tensors: [
        "base_model.model.q.experts.w1.lora_A.weight": [5000, 1, 1],
        "base_model.model.q.experts.w1.lora_B.weight": [1, 5000, 1],
      ], config: #""r":1"#),
    Case(
      tensor: "q.lora_a", tensors: ["q.lora_a": [0, 4], "q.lora_b": [3, 6, 0]],
      config: #""lora_parameters":{"rank":2,"scale":10}"#, name: "adapters.safetensors"),
    Case(
      id: "adapter.config", tensor: "", tensors: ["base_model.model.q.oft_R": [2, 1]],
      config: #""peft_type":"OFT","num_cayley_neumann_terms":2147483647"#),
    Case(
      tensor: "lora_unet_q.dora_scale",
      tensors: [
        "lora_unet_q.lora_down.weight": [2, 4, 3, 3], "lora_unet_q.lora_up.weight": [6, 2, 1, 1],
        "lora_unet_q.dora_scale": [1, 5, 1, 1],
      ]),
  ])
  func areRefused(_ refused: Case) throws { try expectRefusal(refused) }

  /// No byte stands behind the dimensions of a tensor that has a zero among them.
  @Test(arguments: [
    ["lora_unet_q.lora_down.weight": [0, huge], "lora_unet_q.lora_up.weight": [huge, 0]],
    ["lora_unet_q.lokr_w1": [huge, 0], "lora_unet_q.lokr_w2": [huge, 0]],
    ["lora_unet_q.lokr_w1": [0, huge], "lora_unet_q.lokr_w2": [0, huge]],
    ["q.lora_A": [0, huge], "q.lora_B": [huge, 0]],
    ["q.A": [0, huge], "q.B": [huge, 0]],
    ["lora_unet_q.diff": [huge, 0]],
  ])
  func dimensionsWithoutElementsAreNotBelieved(_ tensors: [String: [Int]]) throws {
    let first = try #require(tensors.keys.min())
    try expectRefusal(Case(tensor: first, tensors: tensors))
  }

  /// AdaLoRA prunes modules down to nothing.
  @Test func rankZeroChangesNothing() throws {
    let files = try TinyFiles()
    let path = try files.write(
      "a.safetensors",
      [
        "lora_unet_q.lora_down.weight": Tensor(0, 4), "lora_unet_q.lora_up.weight": Tensor(6, 0),
      ])
    let base = try Checkpoint(opening: try files.write("b.safetensors", ["q.weight": Tensor(6, 4)]))
    let resolved = try Adapter(opening: path).resolved(against: base)
    var generator = SeededGenerator(seed: 1)
    let merged = try Merging.merged(resolved, as: Float.self, using: &generator)
    let before = try Merging.widened(try #require(base["q.weight"]))
    #expect(merged["q.weight"] == before)
  }

  private func expectRefusal(_ refused: Case) throws {
    let files = try TinyFiles()
    let folder = refused.config == nil ? "" : "adapter/"
    let path = try files.write(
      folder + refused.name,
      Dictionary(
        uniqueKeysWithValues: refused.tensors.map { (key, shape) in
          var tensor = Tensor(dtype: refused.integers.contains(key) ? "I64" : "F32")
          tensor.shape = shape
          return (key, tensor)
        }))
    if let config = refused.config {
      try files.folder.write("{\(config)}", to: "adapter/adapter_config.json")
    }
    let error = #expect(throws: SurgeryError.self) {
      _ = try Adapter(opening: refused.config == nil ? path : files.folder.path("adapter"))
    }
    #expect(error?.id == refused.id)
    #expect(error?.kind == .data)
    #expect(error?.file?.hasPrefix(files.folder.path) == true)
    #expect(error?.tensor == (refused.tensor.isEmpty ? nil : refused.tensor))
  }
}
