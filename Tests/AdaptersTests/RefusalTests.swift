import Adapters
import Checkpoints
import Tensors
import Testing

/// Every refusal of a malformed adapter names the file, the tensor, and what was expected or found.
struct RefusalTests {
  typealias Tensor = TinyFiles.Tensor

  /// A malformed adapter and what is said of it.
  struct Case: CustomTestStringConvertible, Sendable {
    var id: String
    /// The tensor that is named; its prefix `base_model.model.` left out.
    var tensor: String?
    /// Words of the message.
    var says: [String]
    var tensors: [String: [Int]]
    /// The file's name; PEFT's folder where there is none.
    var name = ""
    var config = ""
    /// The tensor that holds integers, or elements of `dtype`.
    var integers: String?
    var dtype = "I32"

    var testDescription: String { "\(id) \(tensor ?? "") \(says.first ?? "")" }

    /// An adapter of PEFT.
    static func peft(
      _ fields: String, _ id: String, _ tensor: String?, _ says: [String],
      _ tensors: [String: [Int]]
    ) -> Self {
      Self(id: id, tensor: tensor, says: says, tensors: tensors, config: "{\(fields)}")
    }

    /// One file of another dialect.
    static func file(
      _ id: String, _ tensor: String?, _ says: [String], _ tensors: [String: [Int]]
    ) -> Self {
      Self(id: id, tensor: tensor, says: says, tensors: tensors, name: "a.safetensors")
    }

    /// An adapter of MLX.
    static func mlx(
      _ id: String, _ tensor: String?, _ says: [String], _ tensors: [String: [Int]]
    ) -> Self {
      Self(
        id: id, tensor: tensor, says: says, tensors: tensors, name: "adapters.safetensors",
        config: #"{"lora_parameters":{"rank":2,"scale":10}}"#)
    }
  }

  let files: TinyFiles

  init() throws { files = try TinyFiles() }

  private func failure(of refused: Case) throws -> SurgeryError? {
    let name = refused.name.isEmpty ? "adapter_model.safetensors" : refused.name
    let prefix = refused.name.isEmpty ? "base_model.model." : ""
    let path = try files.write(
      "adapter/\(name)",
      Dictionary(
        uniqueKeysWithValues: refused.tensors.map { (key, shape) in
          var tensor = Tensor(dtype: key == refused.integers ? refused.dtype : "F32")
          tensor.shape = shape
          return (prefix + key, tensor)
        }))
    if !refused.config.isEmpty {
      try files.folder.write(refused.config, to: "adapter/adapter_config.json")
    }
    let base = try Checkpoint(
      opening: try files.write("base.safetensors", ["q.weight": Tensor(6, 4)]))
    let error = #expect(throws: SurgeryError.self) {
      _ = try Adapter(opening: refused.config.isEmpty ? path : files.folder.path("adapter"))
        .resolved(against: base)
    }
    if let tensor = refused.tensor { #expect(error?.tensor == prefix + tensor) }
    return error
  }

  func expectRefusal(_ refused: Case) throws {
    let error = try failure(of: refused)
    #expect(error?.id == refused.id)
    #expect(error?.file?.hasPrefix(files.folder.path("adapter")) == true)
    for words in refused.says {
      #expect(error?.description.contains(words) == true, "\(error?.description ?? "read")")
    }
  }

  @Test(arguments: [
    Case.peft(
      #""peft_type":"LORA","r":2,"lora_alpha":4"#, "adapter.unknown-key", "q.lora_C.weight",
      [],
      ["q.lora_A.weight": [2, 4], "q.lora_B.weight": [6, 2], "q.lora_C.weight": [2]]),
    .peft(
      #""peft_type":"LORA","r":2,"lora_alpha":4,"lora_parameters":{}"#, "adapter.conflict", nil,
      ["found both"], ["q.lora_A.weight": [2, 4], "q.lora_B.weight": [6, 2]]),
    .peft(
      #""peft_type":"LORA","r":2,"lora_alpha":4,"modules_to_save":7"#, "adapter.config", nil,
      ["modules_to_save", "expected a list of strings", "found 7"],
      ["q.lora_A.weight": [2, 4], "q.lora_B.weight": [6, 2]]),
    .peft(
      #""peft_type":"BOFT""#, "adapter.shape", "q.boft_R",
      ["expected stages x blocks x size x size", "[1, 2, 3, 2]"], ["q.boft_R": [1, 2, 3, 2]]),
    .peft(
      #""peft_type":"GRALORA","r":4"#, "adapter.shape", "q.gralora_B", ["k x in/k x r"],
      ["q.gralora_A": [2, 2, 4], "q.gralora_B": [2, 3, 3]]),
    .peft(
      #""peft_type":"VBLORA","r":2"#, "adapter.incomplete", nil, ["vblora_vector_bank"],
      ["q.vblora_logits_A": [2, 2, 4], "q.vblora_logits_B": [3, 2, 4]]),
    .peft(
      #""peft_type":"VERA","r":2"#, "adapter.incomplete", nil, ["base_model.vera_A"],
      ["q.vera_lambda_b": [6], "q.vera_lambda_d": [2]]),
    .peft(
      #""peft_type":"C3A""#, "adapter.shape", "q.c3a_kernel", ["three dimensions", "[2, 2]"],
      ["q.c3a_kernel": [2, 2]]),
    .peft(
      #""peft_type":"SHIRA","r":2"#, "adapter.shape", "q.shira_indices", ["expected 2 x 5"],
      ["q.shira_weight": [1, 5], "q.shira_indices": [2, 4]]),
    .peft(
      #""peft_type":"MISS","r":2,"init_weights":"bat""#, "adapter.unsupported", nil,
      [#"init_weights "bat""#], ["q.miss_block": [2, 6]]),
    .peft(
      #""peft_type":"HRA","r":2,"apply_GS":true"#, "adapter.unsupported", nil, ["apply_GS"],
      ["q.hra_u": [4, 2]]),
    .peft(
      #""peft_type":"HIRA","r":2"#, "adapter.incomplete", nil, ["q.hira_B", "found none"],
      ["q.hira_A": [2, 4]]),
    .peft(
      #""peft_type":"HIRA","r":2"#, "adapter.shape", "q.hira_B", ["at least 2 dimensions", "[6]"],
      ["q.hira_A": [2, 4], "q.hira_B": [6]]),
  ])
  func malformedPEFT(_ refused: Case) throws { try expectRefusal(refused) }

  @Test(arguments: [
    Case.mlx(
      "adapter.incomplete", "q.lora_a", ["both q.lora_a and q.lora_b"], ["q.lora_a": [4, 2]]),
    .mlx(
      "adapter.shape", "q.lora_a", ["expected 3 x 2 x in", "[5, 4]"],
      ["q.lora_a": [5, 4], "q.lora_b": [3, 6, 2]]),
    .file(
      "adapter.unknown-key", "q.other", ["expected .lora_a.weight"],
      ["q.lora_a.weight": [2, 4], "q.lora_b.weight": [6, 2], "q.other": [1]]),
    .file(
      "adapter.incomplete", "q.lora_a.weight", ["both q.lora_a.weight"],
      ["q.lora_a.weight": [2, 4]]),
    .file(
      "adapter.incomplete", "lora_unet_q", ["of lora_unet_q", "found none"],
      ["lora_unet_q.lora_down.weight": [2, 4]]),
    .file(
      "adapter.shape", "lora_unet_q.lora_up.weight", ["at least 2 dimensions", "[6]"],
      ["lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6]]),
    .file(
      "adapter.shape", "lora_unet_q.alpha", ["expected one element", "[2]"],
      [
        "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
        "lora_unet_q.alpha": [2],
      ]),
    .file(
      "adapter.unknown-key", "lora_unet_q.hada_w1_a", ["no meaning beside the others"],
      [
        "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
        "lora_unet_q.hada_w1_a": [6, 2],
      ]),
    .file(
      "adapter.shape", "lora_unet_q.oft_blocks", ["blocks x size x size", "[2, 3, 2]"],
      ["lora_unet_q.oft_blocks": [2, 3, 2]]),
    .file(
      "adapter.incomplete", nil, ["magnitudes but no factors", "factors of lora_unet_q"],
      [
        "lora_unet_k.lora_down.weight": [2, 4], "lora_unet_k.lora_up.weight": [6, 2],
        "lora_unet_q.dora_scale": [6, 1],
      ]),
    .file(
      "adapter.shape", "lora_unet_q.reshape_weight", ["the sizes of a few dimensions", "[9]"],
      [
        "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
        "lora_unet_q.reshape_weight": [9],
      ]),
    .file(
      "adapter.incomplete", "q.lora_A", ["both q.lora_A and q.lora_B"], ["q.lora_A": [2, 4]]),
  ])
  func malformedFiles(_ refused: Case) throws { try expectRefusal(refused) }
}
