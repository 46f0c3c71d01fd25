import Adapters
import Foundation
import LoRASurgery
import Tensors
import Testing

/// What a dialect cannot hold is said with the adapter's file, and nothing is written.
struct InexpressibleTests {
  /// An adapter that a dialect cannot hold.
  struct Case: CustomTestStringConvertible, Sendable {
    var dialect: Dialect
    var says: String
    var id = "adapter.inexpressible"
    var kind = SurgeryError.Kind.unsupported
    var adapter: [String: [Int]]
    /// The model's configuration; no model is given where there is none.
    var config: String? = #"{"model_type":"llama","num_attention_heads":4}"#
    var output = "out"

    var testDescription: String { "\(dialect.rawValue): \(says)" }
  }

  private static let query = "lora_unet_model_layers_0_self_attn_q_proj"
  private static let lora = [
    "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
  ]
  private static let other = [
    "lora_unet_k.lora_down.weight": [2, 4], "lora_unet_k.lora_up.weight": [6, 2],
  ]
  private static let mixed = lora.merging(other) { $1 }
    .merging(["lora_unet_q.dora_scale": [6, 1]]) { $1 }
  private static let queryLoRA = [
    "\(query).lora_down.weight": [2, 16], "\(query).lora_up.weight": [16, 2],
  ]
  private static func loha(_ stem: String, _ rows: Int, _ columns: Int) -> [String: [Int]] {
    [
      "\(stem).hada_w1_a": [rows, 2], "\(stem).hada_w1_b": [2, columns],
      "\(stem).hada_w2_a": [rows, 2], "\(stem).hada_w2_b": [2, columns],
    ]
  }
  /// A tensor stored in full, beside factors of another.
  private static let replacement = other.merging(["lora_unet_q.set_weight": [6, 4]]) { $1 }

  @Test(arguments: [
    Case(
      dialect: .gguf, says: "a GGUF adapter is one file", id: "adapter.output", kind: .usage,
      adapter: queryLoRA),
    Case(
      dialect: .gguf, says: "stored in full (set_weight)", adapter: replacement,
      output: "out.gguf"),
    Case(
      dialect: .gguf, says: "a module that llama does not have", adapter: lora,
      output: "out.gguf"),
    Case(
      dialect: .gguf, says: "model type is not known", id: "adapter.unsupported-layout",
      adapter: queryLoRA, config: #"{"model_type":"mystery"}"#, output: "out.gguf"),
    Case(
      dialect: .gguf, says: "an update of kind loha", adapter: loha(query, 16, 16),
      output: "out.gguf"),
    Case(
      dialect: .gguf, says: "a change of bias", adapter: ["\(query).diff_b": [16]],
      output: "out.gguf"),
    Case(
      dialect: .gguf, says: "its own order, head by head", id: "adapter.no-heads", kind: .data,
      adapter: queryLoRA, config: #"{"model_type":"llama"}"#, output: "out.gguf"),
    Case(
      dialect: .gguf, says: "its own order, head by head", id: "adapter.no-heads", kind: .data,
      adapter: queryLoRA,
      config: #"{"model_type":"llama","num_attention_heads":9223372036854775807}"#,
      output: "out.gguf"),
    Case(
      dialect: .gguf, says: "do not make whole heads", id: "adapter.shape", kind: .data,
      adapter: queryLoRA, config: #"{"model_type":"llama","num_attention_heads":3}"#,
      output: "out.gguf"),
    Case(dialect: .mlx, says: "stored in full (set_weight)", adapter: replacement),
    Case(dialect: .mlx, says: "with and without magnitudes", adapter: mixed),
    Case(
      dialect: .mlx, says: "an MLX adapter is a folder", id: "adapter.output", kind: .usage,
      adapter: lora, output: "out.safetensors"),
    Case(dialect: .loralib, says: "stored in full (set_weight)", adapter: replacement),
    Case(dialect: .loralib, says: "loralib cannot express", adapter: loha("lora_unet_q", 6, 4)),
    Case(
      dialect: .diffusers, says: "stored in full (set_weight)", adapter: replacement,
      output: "out.safetensors"),
    Case(dialect: .peft, says: "with and without magnitudes", adapter: mixed),
    Case(
      dialect: .peft, says: "magnitudes on this axis",
      adapter: lora.merging(["lora_unet_q.dora_scale": [1, 4]]) { $1 }),
    Case(
      dialect: .peft, says: "a core of [2, 2, 3, 3, 3]",
      adapter: [
        "lora_unet_d.hada_w1_a": [2, 4], "lora_unet_d.hada_w1_b": [2, 3],
        "lora_unet_d.hada_t1": [2, 2, 3, 3, 3], "lora_unet_d.hada_w2_a": [2, 4],
        "lora_unet_d.hada_w2_b": [2, 3], "lora_unet_d.hada_t2": [2, 2, 3, 3, 3],
      ]),
    Case(
      dialect: .peft, says: "shapes that no one decompose_factor gives",
      adapter: [
        "lora_unet_q.lokr_w1": [2, 2], "lora_unet_q.lokr_w2": [3, 2],
        "lora_unet_k.lokr_w1": [3, 4], "lora_unet_k.lokr_w2": [2, 1],
      ]),
    Case(
      dialect: .peft, says: "two products of unequal rank",
      adapter: loha("lora_unet_q", 6, 4).merging([
        "lora_unet_q.hada_w2_a": [6, 3], "lora_unet_q.hada_w2_b": [3, 4],
      ]) { $1 }),
    Case(
      dialect: .peft, says: "stored in full",
      adapter: loha("lora_unet_q", 6, 4).merging(["lora_unet_k.set_weight": [6, 4]]) { $1 }),
    Case(
      dialect: .peft, says: "the module's name with dots", id: "adapter.unknown-target",
      kind: .data, adapter: lora, config: nil),
    Case(
      dialect: .rTorch, says: "adapters of this dialect are not written",
      id: "adapter.unsupported", adapter: lora),
  ])
  func isRefused(_ refused: Case) throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(7)
    func tensors(_ shapes: [String: [Int]]) -> [TestTensor] {
      shapes.sorted { $0.key < $1.key }.map { name, shape in
        TestTensor(
          name: TensorName(name), shape: shape, values: random.values(shape.reduce(1, *)))
      }
    }
    let adapter = folder("a.safetensors")
    try TestModels.write(tensors(refused.adapter), to: adapter)
    var request = ConvertRequest(input: adapter, output: folder(refused.output))
    request.dialect = refused.dialect
    if let config = refused.config {
      try TestModels.write(
        tensors([
          "q.weight": [6, 4], "k.weight": [6, 4], "d.weight": [4, 3, 3, 3, 3],
          "model.layers.0.self_attn.q_proj.weight": [16, 16],
          "model.layers.0.self_attn.q_proj.bias": [16],
        ]), to: folder("base"), config: config)
      request.base = folder("base")
    }
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == refused.id && error?.kind == refused.kind, "\(String(describing: error))")
    #expect(error?.what.contains(refused.says) == true, "\(String(describing: error))")
    #expect(error?.file == (refused.kind == .usage ? request.output : adapter))
    #expect(!folder.contents.contains(refused.output))
  }
}
