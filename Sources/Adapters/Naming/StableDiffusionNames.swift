/// Names of UNets and CLIP text encoders in the layout of Stability's checkpoints and in that of diffusers and
/// transformers (dialects.md, section 7.5).
enum StableDiffusionNames {
  private static let residual = [
    "in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "emb_layers.1": "time_emb_proj", "skip_connection": "conv_shortcut",
  ]

  private static let single = [
    "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1", "label_emb.0.2": "add_embedding.linear_2",
  ]

  /// The diffusers name of a module of a UNet in Stability's layout.
  static func diffusers(of path: String) -> String? {
    if let name = single[path] { return name }
    let parts = path.split(separator: ".").map(String.init)
    guard parts.count >= 3, let first = Int(parts[1]) else { return nil }
    switch parts[0] {
    case "middle_block":
      guard let block = ["0": "resnets.0", "1": "attentions.0", "2": "resnets.1"][parts[1]] else {
        return nil
      }
      return inner("mid_block.\(block)", Array(parts[2...]), isResidual: first != 1)
    case "input_blocks":
      guard first > 0 else { return nil }
      let (level, index) = (first - 1).quotientAndRemainder(dividingBy: 3)
      if index == 2 {
        return parts[2...] == ["0", "op"] ? "down_blocks.\(level).downsamplers.0.conv" : nil
      }
      return block("down_blocks.\(level)", index, parts)
    case "output_blocks":
      let (level, index) = first.quotientAndRemainder(dividingBy: 3)
      if parts.count == 4, parts[3] == "conv", parts[2] != "0" {
        return "up_blocks.\(level).upsamplers.0.conv"
      }
      return block("up_blocks.\(level)", index, parts)
    default: return nil
    }
  }

  private static func block(_ level: String, _ index: Int, _ parts: [String]) -> String? {
    switch parts[2] {
    case "0": inner("\(level).resnets.\(index)", Array(parts[3...]), isResidual: true)
    case "1": inner("\(level).attentions.\(index)", Array(parts[3...]), isResidual: false)
    default: nil
    }
  }

  private static func inner(_ block: String, _ rest: [String], isResidual: Bool) -> String? {
    let path = rest.joined(separator: ".")
    if !isResidual { return path.isEmpty ? nil : "\(block).\(path)" }
    return residual[path].map { "\(block).\($0)" }
  }

  /// The name in Stability's layout of a module of a UNet of diffusers.
  ///
  /// - Parameters:
  ///   - path: The module's path.
  ///   - hasAttention: Whether a block such as `up_blocks.0` has attentions, which moves its upsampler.
  /// - Returns: The other name, or `nil` where there is none.
  static func stability(of path: String, hasAttention: (String) -> Bool) -> String? {
    if let pair = single.first(where: { $0.value == path }) { return pair.key }
    let parts = path.split(separator: ".").map(String.init)
    guard parts.count >= 3 else { return nil }
    if parts[0] == "mid_block" {
      let place = ["resnets.0": 0, "attentions.0": 1, "resnets.1": 2]["\(parts[1]).\(parts[2])"]
      return place.flatMap {
        outer("middle_block.\($0)", Array(parts[3...]), isResidual: parts[1] == "resnets")
      }
    }
    guard parts.count >= 4, let level = Int(parts[1]), let index = Int(parts[3]) else { return nil }
    let isDown = parts[0] == "down_blocks"
    guard isDown || parts[0] == "up_blocks" else { return nil }
    switch parts[2] {
    case "downsamplers": return isDown ? "input_blocks.\(3 * (level + 1)).0.op" : nil
    case "upsamplers":
      return "output_blocks.\(3 * level + 2).\(hasAttention("up_blocks.\(level)") ? 2 : 1).conv"
    case "resnets", "attentions":
      let number = isDown ? 3 * level + index + 1 : 3 * level + index
      let isResidual = parts[2] == "resnets"
      return outer(
        "\(isDown ? "input" : "output")_blocks.\(number).\(isResidual ? 0 : 1)",
        Array(parts[4...]), isResidual: isResidual)
    default: return nil
    }
  }

  private static func outer(_ block: String, _ rest: [String], isResidual: Bool) -> String? {
    let path = rest.joined(separator: ".")
    if !isResidual { return path.isEmpty ? nil : "\(block).\(path)" }
    return residual.first { $0.value == path }.map { "\(block).\($0.key)" }
  }

  /// The names of transformers for a module of open_clip: one, or three for a fused attention
  /// (sd-mecha:sd_mecha/extensions/builtin/model_configs/convert_sdxl_diffusers_clip_g_to_original.py).
  static func transformers(ofOpenCLIP path: String) -> [Alias] {
    let single = [
      "token_embedding": "text_model.embeddings.token_embedding",
      "ln_final": "text_model.final_layer_norm",
    ]
    if let name = single[path] { return [Alias(module: name)] }
    let parts = path.split(separator: ".").map(String.init)
    guard parts.count >= 4, parts[0] == "transformer", parts[1] == "resblocks" else { return [] }
    let layer = "text_model.encoder.layers.\(parts[2])"
    switch parts[3...].joined(separator: ".") {
    case "ln_1": return [Alias(module: "\(layer).layer_norm1")]
    case "ln_2": return [Alias(module: "\(layer).layer_norm2")]
    case "mlp.c_fc": return [Alias(module: "\(layer).mlp.fc1")]
    case "mlp.c_proj": return [Alias(module: "\(layer).mlp.fc2")]
    case "attn.out_proj": return [Alias(module: "\(layer).self_attn.out_proj")]
    case "attn":
      return ["q", "k", "v"].enumerated().map {
        Alias(module: "\(layer).self_attn.\($0.element)_proj", part: .block($0.offset, of: 3))
      }
    default: return []
    }
  }
}
