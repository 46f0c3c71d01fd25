import Adapters
import Checkpoints
import Tensors
import Testing

/// Changes that cannot be taken out for their values, not for their kind: said before anything is divided by zero.
struct InversionTests {
  typealias Tensor = TinyFiles.Tensor

  /// A change of a base tensor of 2 x 2, and the weight at which it cannot be undone.
  struct Case: CustomTestStringConvertible, Sendable {
    var says: String
    var weight = 1.0
    var tensors: [String: Tensor]
    /// The fields of adapter_config.json; one file of kohya's where there is none.
    var config: String?

    var testDescription: String { "\(says) at \(weight)" }
  }

  @Test(arguments: [
    Case(
      says: "HiRA multiplies an element by zero",
      tensors: [
        "q.hira_A": .init(1, 2, values: [1, 0]), "q.hira_B": .init(2, 1, values: [-1, 0]),
      ], config: #""peft_type":"HIRA","r":1"#),
    Case(
      says: "multiplies by zero", tensors: ["q.ia3_l": .init(2, 1, values: [0, 1])],
      config: #""peft_type":"IA3""#),
    Case(
      says: "multiplies by zero", weight: 2, tensors: ["q.ia3_l": .init(2, 1, values: [0.5, 1])],
      config: #""peft_type":"IA3""#),
    Case(
      says: "a factor is zero",
      tensors: [
        "q.boft_R": .init(1, 1, 2, 2, values: [0, 1, 0, 0]),
        "q.boft_s": .init(2, 1, values: [0, 1]),
      ], config: #""peft_type":"BOFT""#),
    Case(
      says: "a factor is zero",
      tensors: [
        "lora_unet_q.oft_blocks": .init(1, 2, 2, values: [0, 1, 0, 0]),
        "lora_unet_q.rescale": .init(2, 1, values: [1, 0]),
      ]),
    Case(
      says: "reflections can only be undone at weight 1", weight: 0.5,
      tensors: ["q.hra_u": .init(2, 1, values: [1, 1])], config: #""peft_type":"HRA","r":1"#),
    Case(
      says: "GLoRA",
      tensors: [
        "lora_unet_q.a1.weight": .init(2, 1), "lora_unet_q.a2.weight": .init(1, 2),
        "lora_unet_q.b1.weight": .init(2, 1), "lora_unet_q.b2.weight": .init(1, 2),
      ]),
  ])
  func isRefused(_ refused: Case) throws {
    let files = try TinyFiles()
    let path =
      try refused.config.map { try files.peft(refused.tensors, config: "{\($0)}") }
      ?? files.write("a.safetensors", refused.tensors)
    let base = try Checkpoint(opening: try files.write("b.safetensors", ["q.weight": Tensor(2, 2)]))
    let resolved = try Adapter(opening: path).resolved(against: base)
    var generator = SeededGenerator(seed: 1)
    let error = #expect(throws: SurgeryError.self) {
      _ = try Merging.merged(
        resolved, weight: refused.weight, as: Double.self, using: &generator, inverse: true)
    }
    #expect(error?.id == "adapter.not-invertible" && error?.kind == .unsupported)
    #expect(error?.hint != nil)
    #expect(error?.description.contains(refused.says) == true, "\(String(describing: error))")
  }

  /// Places that point outside the base tensor are only known once they are read.
  @Test func storedIndicesBeyondTheBaseAreNamed() throws {
    let files = try TinyFiles()
    let path = try files.peft(
      [
        "q.shira_weight": .init(1, 2), "q.shira_indices": .init(2, 2, values: [0, 1, 1, 2]),
      ], config: #"{"peft_type":"SHIRA","r":1}"#)
    let base = try Checkpoint(opening: try files.write("b.safetensors", ["q.weight": Tensor(2, 2)]))
    let resolved = try Adapter(opening: path).resolved(against: base)
    let error = #expect(throws: SurgeryError.self) {
      _ = try resolved.tensors[0].loaded(as: Double.self)
    }
    #expect(error?.id == "adapter.shape")
    #expect(error?.tensor == "base_model.model.q.shira_indices")
    #expect(error?.expected == "0 to 1")
    #expect(error?.file?.hasPrefix(files.folder.path) == true)
  }
}
