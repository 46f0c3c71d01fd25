import Checkpoints
import Tensors

/// Makes updates of PEFT adapters of types other than LORA (peft:src/peft/tuners/<type>/layer.py).
struct PEFTMethodBuilder {
  let config: PEFTConfig
  let method: PEFTMethods.Method
  let file: String
  let options: ModuleOptions

  func build(_ modules: PEFTModules, into adapter: inout Adapter) throws(SurgeryError) {
    try config.refuseModifiedBase()
    adapter.fanInFanOut = try config.flag("fan_in_fan_out")
    let shared = modules.modules.first { module in
      ["vera_A", "vera_B", "vblora_vector_bank"].contains { module.parts[$0] != nil }
    }
    for module in modules.modules where module.path != shared?.path {
      var parts = PEFTParts(module, file: file)
      for made in try updates(&parts, shared: shared) { adapter.modules.append(made) }
      try parts.finish()
    }
    if case .layerNorm = method { try addNorms(modules, to: &adapter) }
  }

  private func updates(
    _ parts: inout PEFTParts, shared: PEFTModules.Module?
  ) throws(SurgeryError) -> [ModuleUpdate] {
    switch method {
    case .loha: return [try loha(&parts)]
    case .lokr: return [try lokr(&parts)]
    case .ia3: return try ia3(&parts)
    case .oft: return [try oft(&parts)]
    case .boft: return [try boft(&parts)]
    case .graLoRA: return [try graLoRA(&parts)]
    case .vbLoRA: return [try vbLoRA(&parts, shared)]
    case .adaLoRA: return [try adaLoRA(&parts)]
    case .vera: return [try vera(&parts, shared)]
    case .hira: return [try hira(&parts)]
    case .deLoRA: return [try deLoRA(&parts)]
    case .hra: return [try hra(&parts)]
    case .c3a: return [try c3a(&parts)]
    case .shira: return [try shira(&parts)]
    case .miss: return [try miss(&parts)]
    case .tokens:
      return [
        try PEFTTokens(config).update(of: parts.path, try parts.take("trainable_tokens_delta"))
      ]
    case .layerNorm:
      parts.leave()
      return []
    }
  }

  /// An update of the module's weight.
  func made(
    _ parts: PEFTParts, _ update: any Update, scale: Double? = 1, alpha: Double? = nil
  ) -> ModuleUpdate {
    ModuleUpdate(
      name: parts.path, target: TargetReference(module: parts.path), update: update,
      scale: scale, alpha: alpha)
  }

  /// `alpha / rank` with the fields that LyCORIS's relatives use.
  func scale(
    _ path: String, rank: Int, alphaField: String = "alpha", default value: Double = 8
  ) throws(SurgeryError) -> (scale: Double?, alpha: Double?) {
    let general = try config.number(alphaField, default: value)
    let own = try config.alphas("alpha_pattern")[path]?.value
    return options.scale(path, rank: max(rank, 1), alpha: own ?? general)
  }

  private func addNorms(
    _ modules: PEFTModules, to adapter: inout Adapter
  ) throws(SurgeryError) {
    for module in modules.modules {
      for (part, tensor) in module.parts.sorted(by: { $0.key < $1.key }) {
        adapter.replacements.append(
          Replacement(
            target: TargetReference(
              module: module.path, parameter: part.hasSuffix(".bias") ? "bias" : "weight"),
            tensor: tensor, reason: "ln_tuning"))
      }
    }
  }
}

/// The tensors of one module, taken one by one; what is left at the end is an error.
struct PEFTParts {
  let path: String
  private let file: String
  private var parts: [String: StoredTensor]

  init(_ module: PEFTModules.Module, file: String) {
    path = module.path
    parts = module.parts
    self.file = file
  }

  func has(_ name: String) -> Bool { parts[name] != nil }

  mutating func find(_ name: String) -> StoredTensor? { parts.removeValue(forKey: name) }

  mutating func take(_ name: String) throws(SurgeryError) -> StoredTensor {
    guard let tensor = parts.removeValue(forKey: name) else {
      throw SurgeryError.adapter(
        "incomplete", "a module lacks one of its tensors", file: file,
        key: parts.values.map(\.name.text).min(), expected: "\(path).\(name)", found: "none")
    }
    return tensor
  }

  /// A tensor that must have at least two dimensions.
  mutating func matrix(_ name: String) throws(SurgeryError) -> Factor {
    let tensor = try take(name)
    guard tensor.info.shape.rank >= 2 else {
      throw SurgeryError.adapter(
        "shape", "a factor must be a matrix", file: file, key: tensor.name.text,
        expected: "at least 2 dimensions", found: "\(tensor.info.shape)")
    }
    return Factor(tensor)
  }

  mutating func leave() { parts = [:] }

  func finish() throws(SurgeryError) {
    guard let (part, tensor) = parts.min(by: { $0.key < $1.key }) else { return }
    throw SurgeryError.adapter(
      "unknown-key", "the tensor has no meaning in this adapter", file: file,
      key: tensor.name.text, found: part)
  }
}
