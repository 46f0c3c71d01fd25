/// Names of Flux in the layout of Black Forest Labs and in that of diffusers
/// (diffusers:src/diffusers/loaders/lora_conversion_utils.py; dialects.md, section 9).
enum FluxNames {
  private static let double: [(bfl: String, diffusers: [String])] = [
    ("img_attn.qkv", ["attn.to_q", "attn.to_k", "attn.to_v"]),
    ("txt_attn.qkv", ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
    ("img_attn.proj", ["attn.to_out.0"]), ("txt_attn.proj", ["attn.to_add_out"]),
    ("img_mlp.0", ["ff.net.0.proj"]), ("img_mlp.2", ["ff.net.2"]),
    ("txt_mlp.0", ["ff_context.net.0.proj"]), ("txt_mlp.2", ["ff_context.net.2"]),
    ("img_mod.lin", ["norm1.linear"]), ("txt_mod.lin", ["norm1_context.linear"]),
  ]

  private static let single = [
    ("linear2", "proj_out"), ("modulation.lin", "norm.linear"),
  ]

  private static let outer = [
    "img_in": "x_embedder", "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
  ]

  private static let finalModulation = (
    original: "final_layer.adaLN_modulation.1", diffusers: "norm_out.linear"
  )

  private static func swappedHalves(_ module: String) -> [Alias] {
    [
      Alias(module: module, part: .block(1, of: 2), piece: 0),
      Alias(module: module, part: .block(0, of: 2), piece: 1),
    ]
  }

  /// The names of diffusers for a module of the original layout: one, or the parts of a fused one.
  static func diffusers(of path: String) -> [Alias] {
    if let name = outer[path] { return [Alias(module: name)] }
    // Shift comes before scale in the original, after it in diffusers (`swap_scale_shift`).
    if path == finalModulation.original { return swappedHalves(finalModulation.diffusers) }
    if path == finalModulation.diffusers { return swappedHalves(finalModulation.original) }
    let parts = path.split(separator: ".").map(String.init)
    guard parts.count >= 3 else { return [] }
    let rest = parts[2...].joined(separator: ".")
    if parts[0] == "double_blocks", let entry = double.first(where: { $0.bfl == rest }) {
      let block = "transformer_blocks.\(parts[1])"
      return entry.diffusers.enumerated().map {
        Alias(
          module: "\(block).\($0.element)",
          part: entry.diffusers.count == 1 ? .whole : .block($0.offset, of: 3))
      }
    }
    guard parts[0] == "single_blocks" else { return [] }
    let block = "single_transformer_blocks.\(parts[1])"
    if rest == "linear1" {
      // Query, key and value are as wide as the input; the rest is the feed-forward part.
      return [
        Alias(module: "\(block).attn.to_q", part: .widths(0, 1)),
        Alias(module: "\(block).attn.to_k", part: .widths(1, 2)),
        Alias(module: "\(block).attn.to_v", part: .widths(2, 3)),
        Alias(module: "\(block).proj_mlp", part: .widths(3, nil)),
      ]
    }
    return single.filter { $0.0 == rest }.map { Alias(module: "\(block).\($0.1)") }
  }

  /// For a module of diffusers, the original module and which of its parts, in order, it is.
  static func original(of path: String) -> (module: String, part: Int)? {
    if let pair = outer.first(where: { $0.value == path }) { return (pair.key, 0) }
    let parts = path.split(separator: ".").map(String.init)
    guard parts.count >= 3 else { return nil }
    let rest = parts[2...].joined(separator: ".")
    if parts[0] == "transformer_blocks" {
      for entry in double {
        if let index = entry.diffusers.firstIndex(of: rest) {
          return ("double_blocks.\(parts[1]).\(entry.bfl)", index)
        }
      }
    }
    guard parts[0] == "single_transformer_blocks" else { return nil }
    if let index = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"].firstIndex(of: rest) {
      return ("single_blocks.\(parts[1]).linear1", index)
    }
    return single.first { $0.1 == rest }.map { ("single_blocks.\(parts[1]).\($0.0)", 0) }
  }
}
