import Checkpoints
import Tensors

/// A key of a PEFT file taken apart: prefix, module, what the tensor is of it, and the adapter's name in raw dumps.
///
/// `save_pretrained` removes the adapter's name (`.default`); dumps of `state_dict()` have it as the last or the last but one
/// component (peft:src/peft/utils/save_and_load.py).
struct PEFTKey: Sendable, Hashable {
  /// What the tensor is.
  enum Role: Sendable, Hashable {
    /// A tensor of the method: `lora_A`, `hada_w1_a`, with `.bias` where it is one.
    case part(String)
    /// A tensor stored in full, by its name in the model.
    case full
    /// The trained copy of a module that is saved whole; it wins over one under the model's own name.
    case saved
    /// A copy of the base that must not be used.
    case original
  }

  /// The module's path in the model; for full tensors that of the tensor.
  var module: String
  var role: Role
  var adapterName: String?

  /// Components that begin the tail of a key, for all methods.
  fileprivate static let parts: Set<String> = [
    "lora_A", "lora_B", "lora_E", "lora_embedding_A", "lora_embedding_B",
    "lora_magnitude_vector", "lora_diag", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b",
    "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a",
    "lokr_w2_b", "lokr_t2", "ia3_l", "oft_R", "boft_R", "boft_s", "vera_lambda_b",
    "vera_lambda_d", "vera_A", "vera_B", "hira_A", "hira_B", "hira_embedding_A",
    "hira_embedding_B", "delora_A", "delora_B", "delora_lambda", "delora_w_norm", "gralora_A",
    "gralora_B", "gralora_A_general", "gralora_B_general", "miss_block", "hra_u",
    "ln_tuning_layers", "shira_weight", "shira_indices", "c3a_kernel",
    "trainable_tokens_delta", "vblora_vector_bank", "vblora_logits_A", "vblora_logits_B",
    "vblora_logits_A_topk_indices", "vblora_logits_A_topk_weights",
    "vblora_logits_B_topk_indices", "vblora_logits_B_topk_weights",
  ]

  /// Beginnings of components that belong to a method; with an unknown rest they are not part of a model's path.
  fileprivate static let families = [
    "lora_", "hada_", "lokr_", "ia3_", "oft_", "boft_", "vera_", "hira_", "delora_", "gralora_",
    "miss_", "hra_", "shira_", "c3a_", "vblora_", "road_", "randlora_", "fourierft_", "lily_",
    "glora_", "poly_lora", "ranknum",
  ]

}

extension PEFTKey {
  init(_ key: String, file: String) throws(SurgeryError) {
    var path = Substring(key)
    if path.hasPrefix("base_model.model.") {
      path = path.dropFirst("base_model.model.".count)
    } else if path.hasPrefix("base_model.vera_") || path.hasPrefix("base_model.vblora_") {
      path = path.dropFirst("base_model.".count)
    }
    let components = path.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard !components.contains("") else { throw Self.unknown(key, file) }
    if let index = components.lastIndex(where: { Self.parts.contains($0) }) {
      try self.init(components, at: index, key: key, file: file)
    } else if let index = components.firstIndex(of: "modules_to_save"),
      index + 1 < components.count
    {
      // The adapter's name may have been taken out already, which a single parameter shows.
      let rest = components[(index + (index + 2 < components.count ? 2 : 1))...]
      self.init(
        module: (components[..<index] + rest).joined(separator: "."), role: .saved,
        adapterName: index + 2 < components.count ? components[index + 1] : nil)
    } else if let index = components.firstIndex(of: "original_module") {
      self.init(module: components[..<index].joined(separator: "."), role: .original)
    } else if components.contains(where: { part in Self.families.contains { part.hasPrefix($0) } })
    {
      throw Self.unknown(key, file)
    } else {
      self.init(
        module: components.filter { $0 != "base_layer" }.joined(separator: "."), role: .full)
    }
  }

  private init(
    _ components: [String], at index: Int, key: String, file: String
  ) throws(SurgeryError) {
    var prefix = components[..<index]
    if prefix.last == "token_adapter" { prefix.removeLast() }
    let part = components[index]
    var tail = Array(components[(index + 1)...])
    var suffix = ""
    if let last = tail.last, last == "weight" || last == "bias" {
      suffix = last == "bias" ? ".bias" : ""
      tail.removeLast()
    }
    guard tail.count <= 1 else { throw Self.unknown(key, file) }
    self.init(
      module: prefix.joined(separator: "."), role: .part(part + suffix), adapterName: tail.first)
  }

  private static func unknown(_ key: String, _ file: String) -> SurgeryError {
    .adapter(
      "unknown-key", "the tensor's name is of no kind that this dialect has", file: file, key: key,
      expected: "a tail such as .lora_A.weight or .lora_B.weight",
      hint: "--from names another dialect")
  }
}
