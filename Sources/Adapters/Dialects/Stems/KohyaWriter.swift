import Checkpoints
import Tensors

/// Writes kohya's layout: modules joined by underscores, alpha a tensor of each (sd-scripts:networks/lora.py).
enum KohyaWriter: DialectWriter {
  static let dialect = Dialect.kohya

  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    var writer = StemWriter(dialect: .kohya, dtype: options.dtype, holdsReplacements: false)
    let encoders = Set(
      adapter.modules.compactMap { module -> TargetReference.Component? in
        let component = component(of: module.target)
        if case .textEncoder = component { return component }
        return nil
      })
    var owners: [String: String] = [:]
    for module in adapter.modules {
      let stem = try stem(
        module.target, options.prefix, hasSeveralEncoders: encoders.count > 1)
      if let other = owners.updateValue(module.target.module, forKey: stem),
        other != module.target.module
      {
        throw SurgeryError.inexpressible(
          "both \(other) and \(module.target.module), whose names with underscores are the same",
          in: .kohya, module.name)
      }
      try writer.add(module, stem: stem)
    }
    for replacement in adapter.replacements { try writer.add(replacement, stem: "") }
    return writer.plan(
      to: path, options: options,
      metadata: kept(of: adapter.provenance.metadata).merging(metadata(writer)) { $1 })
  }

  private static func component(of target: TargetReference) -> TargetReference.Component? {
    target.component ?? ComponentPrefix.split(target.module).component
  }

  private static func stem(
    _ target: TargetReference, _ given: String?, hasSeveralEncoders: Bool
  ) throws(SurgeryError) -> String {
    let path = String(ComponentPrefix.split(target.module).rest)
    let prefix: String
    switch component(of: target) {
    case .textEncoder(let number):
      prefix = hasSeveralEncoders ? "lora_te\(number)" : "lora_te"
    case .denoiser, nil: prefix = given ?? "lora_unet"
    }
    return prefix + "_" + String(path.map { $0 == "." ? "_" : $0 })
  }

  /// What metadata say of training and authors; hashes are computed again when the file is written.
  private static func kept(of metadata: [String: String]) -> [String: String] {
    // The arguments of the network would have to change with its kind and ranks.
    metadata.filter { Adapter.Provenance.isOfTraining($0.key) && $0.key != "ss_network_args" }
  }

  private static func metadata(_ writer: StemWriter) -> [String: String] {
    var metadata = [
      "ss_network_module": writer.usesLyCORIS ? "lycoris.kohya" : "networks.lora"
    ]
    if let rank = PEFTRanks.commonest(writer.ranks) { metadata["ss_network_dim"] = "\(rank)" }
    if let alpha = PEFTRanks.commonest(writer.alphas) {
      metadata["ss_network_alpha"] = "\(alpha)"
    }
    return metadata
  }
}

/// Writes ComfyUI's stems: the base's own dotted names under `diffusion_model.` (ComfyUI:comfy/lora.py).
enum ComfyUIWriter: DialectWriter {
  static let dialect = Dialect.comfyui

  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    var writer = StemWriter(dialect: .comfyui, dtype: options.dtype, holdsReplacements: true)
    for module in adapter.modules {
      _ = try module.dottedModule(for: .comfyui)
      try writer.add(module, stem: stem(module.target, options.prefix))
    }
    for replacement in adapter.replacements {
      try writer.add(replacement, stem: stem(replacement.target, options.prefix))
    }
    return writer.plan(to: path, options: options, metadata: ["format": "pt"])
  }

  private static func stem(_ target: TargetReference, _ given: String?) -> String {
    let (named, _, rest) = ComponentPrefix.split(target.module)
    switch target.component ?? named {
    case .textEncoder(let number):
      let name = ["clip_l", "clip_g", "t5xxl"][min(max(number, 1), 3) - 1]
      return "text_encoders.\(name).transformer.\(rest)"
    case .denoiser, nil: return "\(given ?? "diffusion_model").\(rest)"
    }
  }
}

extension Adapter.Provenance {
  /// Whether a key of metadata is one of those that kohya and ModelSpec have for training, authors and hashes.
  static func isOfTraining(_ key: String) -> Bool {
    ["ss_", "sshs_", "modelspec."].contains { key.hasPrefix($0) }
  }

  /// Leaves out what the metadata say of training, for an adapter that is made of several.
  public mutating func forgetTraining() {
    metadata = metadata.filter { !Self.isOfTraining($0.key) }
  }
}
