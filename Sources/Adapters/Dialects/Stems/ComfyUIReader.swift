import Checkpoints
import Tensors

/// ComfyUI, Black Forest Labs and XLabs: dotted stems in one file (dialects.md, section 10).
enum ComfyUIReader: DialectReader {
  static let roots = [
    "diffusion_model.", "text_encoders.", "double_blocks.", "single_blocks.",
  ]

  static func recognises(_ files: AdapterFiles) -> String? {
    for tensor in files.tensors {
      let name = tensor.name.text
      guard let (stem, _, family) = StemKey.split(name), family != .shared else { continue }
      if roots.contains(where: { stem.hasPrefix($0) }) {
        return "native stems, such as \(DisplayText.escaped(name))"
      }
      if (family == .kohya || family == .lycoris || family == .comfy), stem.contains(".") {
        return "dotted stems, such as \(DisplayText.escaped(name))"
      }
    }
    return nil
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    let modules = try StemModules(files)
    var adapter = Adapter(
      path: files.path, modules: [], provenance: .init(dialect: .comfyui, reason: reason))
    adapter.provenance.metadata = files.metadata
    adapter.provenance.warnings = files.file.warnings + modules.warnings
    for tensor in modules.plain {
      adapter.replacements.append(try controlNorm(tensor, modules))
    }
    var builder = StemBuilder(
      file: files.file.file.path, options: try ModuleOptions(options))
    try builder.build(modules, into: &adapter, target: target)
    return adapter
  }

  /// Flux's control adapters hold scales of norms in full.
  private static func controlNorm(
    _ tensor: StoredTensor, _ modules: StemModules
  ) throws(SurgeryError) -> Replacement {
    let name = tensor.name.text
    guard name.hasSuffix("norm.scale") else {
      try modules.refusePlain()
      throw SurgeryError(.bug, "adapter.plain", "a plain tensor was not refused", tensor: name)
    }
    let (module, parameter) = ModuleUpdate.split(name)
    var reference = target(module)
    reference.parameter = parameter
    return Replacement(target: reference, tensor: tensor, reason: "norm of a control adapter")
  }

  /// The target of a stem: component and path.
  static func target(_ stem: String) -> TargetReference {
    if let xlabs = xlabs(stem) { return xlabs }
    if !stem.contains(".") || KohyaReader.prefixes.contains(where: { stem.hasPrefix($0.prefix) }) {
      return KohyaReader.target(stem)
    }
    if stem.hasPrefix("text_encoders.") || stem.hasPrefix("diffusion_model.") {
      let (component, _, rest) = ComponentPrefix.split(stem)
      if component != nil { return TargetReference(module: String(rest), component: component) }
      // text_encoders.NAME.…, whatever the encoder is called.
      let parts = stem.split(separator: ".", maxSplits: 2).map(String.init)
      return TargetReference(module: parts.last ?? stem, component: .textEncoder(1))
    }
    if roots.contains(where: { stem.hasPrefix($0) }) {
      return TargetReference(module: stem, component: .denoiser)
    }
    var path = stem
    if path.hasPrefix("base_model.model.") { path.removeFirst("base_model.model.".count) }
    return DiffusersReader.target(path)
  }

  /// XLabs: `double_blocks.N.processor.qkv_lora1` is the image stream's, `…2` the text stream's.
  private static func xlabs(_ stem: String) -> TargetReference? {
    let parts = stem.split(separator: ".").map(String.init)
    guard parts.count == 4, parts[0] == "double_blocks", parts[2] == "processor" else { return nil }
    let names = [
      "qkv_lora1": "img_attn.qkv", "proj_lora1": "img_attn.proj", "qkv_lora2": "txt_attn.qkv",
      "proj_lora2": "txt_attn.proj",
    ]
    return names[parts[3]].map {
      TargetReference(module: "double_blocks.\(parts[1]).\($0)", component: .denoiser)
    }
  }
}
