import Adapters
import Checkpoints
import Tensors
import Testing

/// Changes that cannot be taken out for their values, not for their kind: said before anything is divided by zero.
struct InversionTests {
  typealias Tensor = TinyFiles.Tensor

  /// A change of a base tensor of 2 x 2 or more, and the weight at which it cannot be undone.
  struct Case: CustomTestStringConvertible, Sendable {
    var says: String
    var weight = 1.0
    var size = 2
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
    // With five terms of the series a quarter turn gives no rotation, but zero.
    Case(
      says: "a block of the rotation is singular", tensors: ["q.oft_R": .init(1, 1, values: [1])],
      config: #""peft_type":"OFT","num_cayley_neumann_terms":5"#),
    // Half of the way to turning round: what is left along two axes is rounding.
    Case(
      says: "a block of the rotation is singular", weight: 0.5, size: 3,
      tensors: [
        "q.boft_R": .init(1, 1, 3, 3, values: [0, 1, 1, 0, 0, 1, 0, 0, 0].map { $0 * 0x1p41 })
      ], config: #""peft_type":"BOFT""#),
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
    let base = try Checkpoint(
      opening: try files.write("b.safetensors", ["q.weight": Tensor(refused.size, refused.size)]))
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

  /// Beside 1e20 the 1 of `(I + Q)(I - Q)⁻¹` is lost, and with it the rotation: nothing is computed instead of something else.
  @Test(arguments: [
    (#""peft_type":"OFT","use_cayley_neumann":false"#, "q.oft_R", [1, 3]),
    (#""peft_type":"BOFT""#, "q.boft_R", [1, 1, 3, 3]),
  ])
  func rotationsOfHugeParameters(_ config: String, _ name: String, _ shape: [Int]) throws {
    let files = try TinyFiles()
    var tensor = Tensor()
    tensor.shape = shape
    // Of a square block the part above the diagonal counts.
    tensor.values =
      name == "q.oft_R" ? [1e20, 1e20, 1e20] : [0, 2, 2, 0, 0, 2, 0, 0, 0].map { $0 * 1e20 }
    let path = try files.peft([name: tensor], config: "{\(config)}")
    let base = try Checkpoint(opening: try files.write("b.safetensors", ["q.weight": Tensor(3, 3)]))
    let resolved = try Adapter(opening: path).resolved(against: base)
    let error = #expect(throws: SurgeryError.self) {
      _ = try TensorChange<Double>(resolved.tensors[0].planned(), .merge)
    }
    #expect(error?.id == "adapter.rotation" && error?.kind == .data)
    #expect(error?.tensor == "base_model.model.\(name)")
    #expect(error?.file?.hasPrefix(files.folder.path) == true && error?.hint != nil)
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
      _ = try TensorChange<Double>(resolved.tensors[0].planned(), .merge)
    }
    #expect(error?.id == "adapter.shape")
    #expect(error?.tensor == "base_model.model.q.shira_indices")
    #expect(error?.expected == "whole numbers from 0 to 1" && error?.found == "2")
    #expect(error?.file?.hasPrefix(files.folder.path) == true)
  }
}
