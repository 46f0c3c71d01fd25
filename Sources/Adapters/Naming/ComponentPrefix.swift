/// The parts of a model, by the prefixes that their tensors have in the base.
enum ComponentPrefix {
  typealias Component = TargetReference.Component

  /// Prefixes of pipelines' folders and of single-file checkpoints, the longer before the shorter
  /// (dialects.md, section 7.5; ComfyUI:comfy/supported_models.py).
  private static let known: [(prefix: String, component: Component)] = [
    ("unet/", .denoiser), ("transformer/", .denoiser), ("prior/", .denoiser),
    ("text_encoder/", .textEncoder(1)), ("text_encoder_2/", .textEncoder(2)),
    ("text_encoder_3/", .textEncoder(3)), ("text_encoder_4/", .textEncoder(4)),
    ("model.diffusion_model.", .denoiser), ("diffusion_model.", .denoiser),
    ("cond_stage_model.transformer.", .textEncoder(1)),
    ("cond_stage_model.model.", .textEncoder(1)),
    ("conditioner.embedders.0.transformer.", .textEncoder(1)),
    ("conditioner.embedders.1.model.", .textEncoder(2)),
    ("text_encoders.clip_l.transformer.", .textEncoder(1)),
    ("text_encoders.clip_g.transformer.", .textEncoder(2)),
    ("text_encoders.t5xxl.transformer.", .textEncoder(3)),
  ]

  /// A tensor's or module's name without its component's prefix.
  static func split(_ name: String) -> (component: Component?, prefix: String, rest: Substring) {
    for (prefix, component) in known where name.hasPrefix(prefix) {
      return (component, prefix, name.dropFirst(prefix.count))
    }
    return (nil, "", Substring(name))
  }
}
