import Checkpoints
import Tensors

/// Microsoft's loralib: `NAME.lora_A` and `NAME.lora_B`; rank, alpha and the class of a layer are not stored
/// (LoRA:loralib/utils.py; dialects.md, section 6).
enum LoralibReader: DialectReader {
  static func recognises(_ files: AdapterFiles) -> String? {
    let bare = files.tensors.first {
      $0.name.text.hasSuffix(".lora_A") && !$0.name.text.hasPrefix("base_model.model.")
    }
    return bare.map { "keys such as \(DisplayText.escaped($0.name.text)), without .weight" }
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    try PairReader(files, dialect: .loralib, convention: nil, options: options)
      .adapter(files, reason: reason, other: addStored)
  }

  /// Biases, and the weights of a state dict that was saved whole, are values of the model.
  static func addStored(
    _ tensor: StoredTensor, to adapter: inout Adapter
  ) throws(SurgeryError) {
    let (module, parameter) = ModuleUpdate.split(tensor.name.text)
    guard !parameter.hasPrefix("lora_") else {
      throw SurgeryError.adapter(
        "unknown-key", "the tensor's name is of no kind that this dialect has",
        key: tensor.name.text, expected: ".lora_A and .lora_B")
    }
    adapter.replacements.append(
      Replacement(
        target: TargetReference(module: module, parameter: parameter), tensor: tensor))
  }
}
