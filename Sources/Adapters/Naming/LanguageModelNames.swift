/// Names of decoder-only language models in Hugging Face's layout and in those of other libraries.
enum LanguageModelNames {
  private static let torchtune = [
    "self_attn.q_proj": "attn.q_proj", "self_attn.k_proj": "attn.k_proj",
    "self_attn.v_proj": "attn.v_proj", "self_attn.o_proj": "attn.output_proj",
    "mlp.gate_proj": "mlp.w1", "mlp.down_proj": "mlp.w2", "mlp.up_proj": "mlp.w3",
  ]

  /// The names in litgpt of modules within a layer (litgpt:litgpt/scripts/convert_hf_checkpoint.py); queries, keys and values are
  /// the pieces of one module.
  private static let litgpt: [String: Alias] = [
    "self_attn.q_proj": Alias(module: "attn.qkv", piece: 0),
    "self_attn.k_proj": Alias(module: "attn.qkv", piece: 1),
    "self_attn.v_proj": Alias(module: "attn.qkv", piece: 2),
    "self_attn.o_proj": Alias(module: "attn.proj"), "mlp.gate_proj": Alias(module: "mlp.fc_1"),
    "mlp.up_proj": Alias(module: "mlp.fc_2"), "mlp.down_proj": Alias(module: "mlp.proj"),
    "mlp.fc1": Alias(module: "mlp.fc"), "mlp.fc2": Alias(module: "mlp.proj"),
  ]

  /// The names that other libraries, and transformers from version 5 on, have for a module.
  static func aliases(of path: String) -> [Alias] {
    switch path {
    case "lm_head": return [Alias(module: "output"), Alias(module: "model.unembed_tokens")]
    case "model.embed_tokens":
      return [Alias(module: "tok_embeddings"), Alias(module: "transformer.wte")]
    default: break
    }
    let prefix = "model.layers."
    guard path.hasPrefix(prefix) else { return renamed(path).map { Alias(module: $0) } }
    let rest = path.dropFirst(prefix.count)
    guard let dot = rest.firstIndex(of: ".") else { return [] }
    let (layer, inner) = (rest[..<dot], String(rest[rest.index(after: dot)...]))
    var aliases: [Alias] = []
    if let name = torchtune[inner] { aliases.append(Alias(module: "layers.\(layer).\(name)")) }
    if var alias = litgpt[inner] {
      alias.module = "transformer.h.\(layer).\(alias.module)"
      aliases.append(alias)
    }
    if inner == "block_sparse_moe.gate" {
      aliases += ["gate", "router"].map { Alias(module: "\(prefix)\(layer).mlp.\($0)") }
    }
    return aliases
  }

  /// What transformers calls the layers of vision models since version 5, whose checkpoints keep the old names
  /// (transformers:src/transformers/conversion_mapping.py, `ViTModel` and its kin).
  private static let visionNames = [
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.self.query", "attention.q_proj"), ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"), ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
  ]

  private static func renamed(_ path: String) -> [String] {
    guard path.contains(".layer.") || path.hasPrefix("layer."),
      let (old, new) = visionNames.first(where: { path.hasSuffix(".\($0.0)") })
    else { return [] }
    let name = path.dropLast(old.count) + new
    let short = name.split(
      separator: "encoder.layer.", maxSplits: 1, omittingEmptySubsequences: false)
    return short.count == 2 ? [String(name), "\(short[0])layers.\(short[1])"] : [String(name)]
  }
}
