import Checkpoints
import Tensors

/// Trained tokens of an embedding; which they are stands in the configuration alone
/// (peft:src/peft/tuners/trainable_tokens/layer.py).
struct PEFTTokens {
  private let config: PEFTConfig

  init(_ config: PEFTConfig) { self.config = config }

  func update(
    of module: String, _ values: StoredTensor
  ) throws(SurgeryError) -> ModuleUpdate {
    let indices = try indices(of: module, values)
    return ModuleUpdate(
      name: module, target: TargetReference(module: module),
      update: try RowReplacement(Factor(values), indices: indices), scale: 1)
  }

  private func indices(
    of module: String, _ values: StoredTensor
  ) throws(SurgeryError) -> [Int] {
    for field in ["trainable_token_indices", "token_indices"] {
      guard let value = config.json[field], !value.isNull else { continue }
      guard let members = value.members else { return try list(value, field) }
      for member in members where ".\(module)".hasSuffix(".\(member.key)") {
        return try list(member.value, "\(field).\(member.key)")
      }
    }
    throw SurgeryError.adapter(
      "incomplete", "the file has trained tokens, but adapter_config.json does not say which",
      file: config.path, key: values.name.text, expected: "trainable_token_indices with \(module)")
  }

  private func list(_ value: JSONValue, _ field: String) throws(SurgeryError) -> [Int] {
    guard let elements = value.elements else {
      throw config.wrong(field, expected: "a list of indices", value)
    }
    var indices: [Int] = []
    for element in elements {
      guard let index = element.integer, index >= 0 else {
        throw config.wrong(field, expected: "indices", element)
      }
      indices.append(index)
    }
    return indices
  }
}
