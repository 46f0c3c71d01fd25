/// Names of decoder-only language models in Hugging Face's layout and in those of other libraries.
enum LanguageModelNames {
  private static let torchtune = [
    "self_attn.q_proj": "attn.q_proj", "self_attn.k_proj": "attn.k_proj",
    "self_attn.v_proj": "attn.v_proj", "self_attn.o_proj": "attn.output_proj",
    "mlp.gate_proj": "mlp.w1", "mlp.down_proj": "mlp.w2", "mlp.up_proj": "mlp.w3",
  ]

  /// The name that torchtune has for a module (torchtune:torchtune/models/convert_weights.py).
  static func torchtune(of path: String) -> String? {
    switch path {
    case "lm_head": return "output"
    case "model.embed_tokens": return "tok_embeddings"
    default: break
    }
    let prefix = "model.layers."
    guard path.hasPrefix(prefix) else { return nil }
    let rest = path.dropFirst(prefix.count)
    guard let dot = rest.firstIndex(of: ".") else { return nil }
    return torchtune[String(rest[rest.index(after: dot)...])].map { "layers.\(rest[..<dot]).\($0)" }
  }
}
