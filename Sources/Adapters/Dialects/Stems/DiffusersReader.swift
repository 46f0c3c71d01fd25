import Checkpoints
import Tensors

/// diffusers: three generations of keys under component prefixes (dialects.md, section 9).
enum DiffusersReader: DialectReader {
  static let prefixes: [(prefix: String, component: TargetReference.Component)] = [
    ("unet.", .denoiser), ("transformer.", .denoiser), ("prior.", .denoiser),
    ("text_encoder_2.", .textEncoder(2)), ("text_encoder_3.", .textEncoder(3)),
    ("text_encoder.", .textEncoder(1)),
  ]

  static func recognises(_ files: AdapterFiles) -> String? {
    if files.metadata["lora_adapter_metadata"] != nil {
      return "metadata: lora_adapter_metadata"
    }
    for tensor in files.tensors {
      let name = tensor.name.text
      guard let (stem, _, family) = StemKey.split(name),
        !ComfyUIReader.roots.contains(where: { stem.hasPrefix($0) })
      else { continue }
      if family == .processor, stem.contains(".processor.") {
        return "keys of attention processors, such as \(DisplayText.escaped(name))"
      }
      if family == .linearLayer || family == .lora {
        return "keys such as \(DisplayText.escaped(name))"
      }
      if family == .peft, prefixes.contains(where: { name.hasPrefix($0.prefix) }),
        !name.hasPrefix("transformer.h.")
      {
        return "component prefixes and keys such as \(DisplayText.escaped(name))"
      }
    }
    return nil
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    let modules = try StemModules(files)
    try modules.refusePlain()
    var adapter = Adapter(
      path: files.path, modules: [], provenance: .init(dialect: .diffusers, reason: reason))
    adapter.provenance.metadata = files.metadata
    adapter.provenance.warnings = files.file.warnings + modules.warnings
    var builder = StemBuilder(
      file: files.file.file.path, options: try ModuleOptions(options))
    if let text = files.metadata["lora_adapter_metadata"] {
      let metadata = try DiffusersMetadata(text, file: files.file.file.path)
      builder.metadata = { stem, rank in metadata.scaling(stem, rank: rank) }
    }
    // Where no module has an alpha, diffusers takes 1 as well.
    try builder.build(
      modules, into: &adapter,
      missingAlpha: { adapter, count in
        adapter.modules.count == count
          ? nil
          : "scale 1, where diffusers would take the alpha that most others have"
      }, target: target)
    return adapter
  }

  /// The module that a stem names, by the generation of its key.
  static func target(_ stem: String) -> TargetReference {
    var path = stem
    // Very old files hold the attention processors of a UNet alone.
    var component: TargetReference.Component? = nil
    for (prefix, named) in prefixes where stem.hasPrefix(prefix) {
      path = String(stem.dropFirst(prefix.count))
      component = named
      break
    }
    let old = ["to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"]
    let encoder = ["to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"]
    let components = path.split(separator: ".").map(String.init)
    if let last = components.last, components.dropLast().last == "processor", let name = old[last] {
      path = (components.dropLast(2) + [name]).joined(separator: ".")
      component = component ?? .denoiser
    } else if let last = components.last, components.dropLast().last == "self_attn",
      let name = encoder[last]
    {
      path = (components.dropLast() + [name]).joined(separator: ".")
    }
    return TargetReference(module: path, component: component)
  }
}

/// The configuration of PEFT that diffusers puts into a file's metadata, one for each component.
struct DiffusersMetadata: Sendable {
  private struct Component: Sendable {
    let prefix: String
    let alpha: Double
    let alphas: PatternMap<Double>
    let rule: RankScale
  }

  private var components: [Component] = []

  init(_ text: String, file: String) throws(SurgeryError) {
    let json: JSONValue
    do throws(SurgeryError) { json = try JSONValue(parsing: Array(text.utf8)) } catch {
      var error = error.inFile(file)
      error.what = "metadata lora_adapter_metadata: " + error.what
      throw error
    }
    let prefixes = DiffusersReader.prefixes.map(\.prefix) + [""]
    for prefix in prefixes where json[prefix + "r"] != nil {
      let members = (json.members ?? []).filter { $0.key.hasPrefix(prefix) }.map {
        JSONValue.Member(String($0.key.dropFirst(prefix.count)), $0.value)
      }
      let config = try PEFTConfig(.object(members), path: file, type: "LORA")
      components.append(
        Component(
          prefix: prefix, alpha: try config.number("lora_alpha", default: 8),
          alphas: try config.alphas("alpha_pattern"),
          rule: try config.flag("use_rslora") ? .alphaOverRootRank : .alphaOverRank))
    }
  }

  /// Alpha and rule of a stem, where its component has a configuration.
  func scaling(_ stem: String, rank: Int) -> (alpha: Double, rule: RankScale)? {
    guard let component = components.first(where: { stem.hasPrefix($0.prefix) }) else { return nil }
    let path = String(stem.dropFirst(component.prefix.count))
    return (component.alphas[path]?.value ?? component.alpha, component.rule)
  }
}
