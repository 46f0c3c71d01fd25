import Tensors

/// How llama.cpp names architectures and their tensors (llama.cpp:gguf-py/gguf/tensor_mapping.py), and which of them
/// have the rows of queries and keys in its own order.
struct GGUFNames {
  /// llama.cpp's name of the architecture.
  let architecture: String

  /// The names of `transformers` model types, where llama.cpp uses others.
  private static let renamedTypes = [
    "mistral": "llama", "mixtral": "llama", "gemma3_text": "gemma3", "phi": "phi2",
    "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "cohere": "command-r",
  ]
  private static let plainTypes: Set<String> = [
    "llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "gpt2", "starcoder2", "olmo",
    "olmo2", "granite", "arcee", "smollm3", "stablelm", "internlm2", "exaone", "glm4", "cohere2",
    "phi2", "qwen2moe", "qwen3moe", "command-r",
  ]
  /// Model classes that inherit the permutation of `LlamaModel`.
  private static let permuted: Set<String> = ["llama", "arcee", "granite", "olmo", "smollm3"]

  /// The names of a model type of `transformers`; `nil` for types that are not known.
  init?(modelType: String) {
    let name = Self.renamedTypes[modelType] ?? modelType
    guard Self.plainTypes.contains(name) else { return nil }
    architecture = name
  }

  /// The names of an architecture of llama.cpp.
  init(architecture: String) { self.architecture = architecture }

  /// Whether the rows of queries and keys are interleaved.
  var permutesHeads: Bool { Self.permuted.contains(architecture) }

  private var isGPT2: Bool { architecture == "gpt2" }

  /// llama.cpp's module in a block, and the model's.
  private static let blocks = [
    ("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"), ("attn_qkv", "self_attn.qkv_proj"),
    ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "block_sparse_moe.gate"),
    ("ffn_gate_exps", "mlp.switch_mlp.gate_proj"), ("ffn_up_exps", "mlp.switch_mlp.up_proj"),
    ("ffn_down_exps", "mlp.switch_mlp.down_proj"),
  ]
  /// Modules of architectures that call some of theirs otherwise; they come before those of all.
  private static let ownBlocks = [
    "phi3": [("ffn_up", "mlp.gate_up_proj")], "glm4": [("ffn_up", "mlp.gate_up_proj")],
    "starcoder2": [("ffn_up", "mlp.c_fc"), ("ffn_down", "mlp.c_proj")],
    "phi2": [
      ("attn_output", "self_attn.dense"), ("ffn_up", "mlp.fc1"), ("ffn_down", "mlp.fc2"),
    ],
  ]
  private static let blocksOfGPT2 = [
    ("attn_qkv", "attn.c_attn"), ("attn_output", "attn.c_proj"), ("ffn_up", "mlp.c_fc"),
    ("ffn_down", "mlp.c_proj"),
  ]
  private static let outer = [("token_embd", "model.embed_tokens"), ("output", "lm_head")]
  private static let outerOfGPT2 = [
    ("token_embd", "transformer.wte"), ("position_embd", "transformer.wpe"), ("output", "lm_head"),
  ]

  private var blockNames: [(String, String)] {
    isGPT2 ? Self.blocksOfGPT2 : (Self.ownBlocks[architecture] ?? []) + Self.blocks
  }
  private var outerNames: [(String, String)] { isGPT2 ? Self.outerOfGPT2 : Self.outer }
  private var blockPrefix: String { isGPT2 ? "transformer.h." : "model.layers." }

  /// The model's module for a tensor of llama.cpp, named without `.weight`.
  func module(of name: String) -> String? {
    if let outer = outerNames.first(where: { $0.0 == name }) { return outer.1 }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0] == "blk", let block = Int(parts[1]), block >= 0 else {
      return nil
    }
    let wanted = blockNames.first { $0.0 == parts[2] }?.1
    return wanted.map { "\(blockPrefix)\(block).\($0)" }
  }

  /// llama.cpp's name, without `.weight`, for a module of the model.
  func name(of module: String) -> String? {
    var path = module[...]
    for prefix in ["model.", "transformer."] where path.hasPrefix(prefix) {
      path = path.dropFirst(prefix.count)
      break
    }
    if let outer = outerNames.first(where: { $0.1 == path || $0.1.hasSuffix(".\(path)") }) {
      return outer.0
    }
    let parts = path.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0] == (isGPT2 ? "h" : "layers"), let block = Int(parts[1]),
      let own = blockNames.first(where: { $0.1 == parts[2] })
    else { return nil }
    return "blk.\(block).\(own.0)"
  }

  /// What a tensor holds whose rows are in llama.cpp's own order.
  enum PermutedRows { case queries, keys }

  /// What a tensor holds, if its rows are in llama.cpp's own order.
  func permutation(of name: String) -> PermutedRows? {
    guard permutesHeads else { return nil }
    if name.hasSuffix(".attn_q") { return .queries }
    return name.hasSuffix(".attn_k") ? .keys : nil
  }
}
