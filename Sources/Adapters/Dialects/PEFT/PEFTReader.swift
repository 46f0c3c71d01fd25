import Checkpoints
import Tensors

/// Hugging Face PEFT: `adapter_config.json` beside `adapter_model.safetensors` (dialects.md, sections 4 and 5).
enum PEFTReader: DialectReader {
  static func recognises(_ files: AdapterFiles) -> String? {
    if let type = files.config?["peft_type"]?.text {
      return "adapter_config.json has peft_type \(type)"
    }
    if files.config != nil, let expert = tinkerExpert(files) {
      return "experts in three dimensions, such as \(DisplayText.escaped(expert))"
    }
    // A configuration without the field is left for the user to name, by way of the registry's message.
    if files.config != nil { return nil }
    if embeddedConfig(files) != nil { return "the file's metadata has a PEFT configuration" }
    let isPEFT = files.tensors.contains {
      $0.name.text.hasPrefix("base_model.model.") && $0.name.text.contains(".lora_")
    }
    if isPEFT { return "keys of PEFT without adapter_config.json" }
    let others =
      DiffusersReader.prefixes.map(\.prefix) + ComfyUIReader.roots + ["lora_", "lycoris_"]
    let bare = files.tensors.first { tensor in
      let name = tensor.name.text
      return name.hasSuffix(".lora_A.weight")
        && (name.hasPrefix("transformer.h.") || !others.contains { name.hasPrefix($0) })
    }
    guard let bare, files.metadata["lora_adapter_metadata"] == nil else { return nil }
    return "keys such as \(DisplayText.escaped(bare.name.text)), without adapter_config.json"
  }

  /// Whether a module is one of Tinker's stacks of experts.
  static func isTinkerExpert(_ path: String) -> Bool {
    [".experts.w1", ".experts.w2", ".experts.w3"].contains { path.hasSuffix($0) }
  }

  /// A key of Tinker's, whose configuration need not have a `peft_type`.
  private static func tinkerExpert(_ files: AdapterFiles) -> String? {
    files.tensors.first {
      $0.info.shape.rank == 3 && $0.name.text.hasSuffix(".lora_A.weight")
        && isTinkerExpert(String($0.name.text.dropLast(".lora_A.weight".count)))
    }?.name.text
  }

  /// A configuration that this program put into the metadata of a single file.
  private static func embeddedConfig(_ files: AdapterFiles) -> JSONValue? {
    guard let text = files.metadata["lora_adapter_metadata"],
      let json = try? JSONValue(parsing: Array(text.utf8)), json["peft_type"] != nil
    else { return nil }
    return json
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    if let config = files.config, config["peft_type"] != nil, config["lora_parameters"] != nil {
      throw SurgeryError.adapter(
        "conflict", "adapter_config.json is both PEFT's and MLX's", file: files.configPath,
        expected: "peft_type or lora_parameters", found: "both", hint: "remove one of the two")
    }
    let config: PEFTConfig?
    if let json = files.config ?? embeddedConfig(files) {
      config = try PEFTConfig(
        json, path: files.configPath ?? files.file.file.path,
        type: options.dialect == .peft || tinkerExpert(files) != nil ? "LORA" : nil)
    } else {
      config = nil
    }
    // The type comes first: the keys of one that is not read are unknown too.
    var method: (config: PEFTConfig, kind: PEFTMethods.Method)?
    if let config, config.type != "LORA" {
      guard let kind = PEFTMethods.method(config.type) else {
        throw PEFTMethods.refusal(config.type, file: config.path)
      }
      method = (config, kind)
    }
    let modules = try PEFTModules(files)
    var adapter = Adapter(
      path: files.path, modules: [], provenance: .init(dialect: .peft, reason: reason))
    adapter.provenance.config = config?.json
    adapter.provenance.metadata = files.metadata
    adapter.provenance.baseName = try config?.text("base_model_name_or_path")
    adapter.provenance.warnings = files.file.warnings + modules.warnings
    let moduleOptions = try ModuleOptions(options)
    if let method {
      try PEFTMethodBuilder(
        config: method.config, method: method.kind, file: files.file.file.path,
        options: moduleOptions
      ).build(modules, into: &adapter)
    } else {
      if options.residualBase == nil { try config?.refuseModifiedBase() }
      adapter.provenance.baseChange = config?.baseChange
      let builder = try PEFTLoRABuilder(
        config: config, file: files.file.file.path, options: moduleOptions)
      try builder.build(modules, into: &adapter)
    }
    try PEFTReplacements(config).add(modules, to: &adapter)
    return adapter
  }
}

/// The tensors of a PEFT file by module.
struct PEFTModules: Sendable {
  /// One module: its tensors by what they are.
  struct Module: Sendable {
    let path: String
    var parts: [String: StoredTensor] = [:]
  }

  /// Modules in the order of the file.
  private(set) var modules: [Module] = []
  /// Tensors stored in full, with their names in the model.
  private(set) var full: [(name: String, tensor: StoredTensor)] = []
  private(set) var warnings: [String] = []
  let file: String

  init(_ files: AdapterFiles) throws(SurgeryError) {
    file = files.file.file.path
    var positions: [String: Int] = [:]
    var names: Set<String> = []
    var fullNames: [String: (index: Int, isSaved: Bool)] = [:]
    for tensor in files.tensors {
      let key = try PEFTKey(tensor.name.text, file: file)
      if let name = key.adapterName, names.insert(name).inserted, names.count > 1 {
        throw SurgeryError.adapter(
          "conflict", "the file holds several adapters", file: file, key: tensor.name.text,
          expected: "one adapter", found: names.sorted().listed(),
          hint: "save each adapter by itself")
      }
      switch key.role {
      case .original: continue
      case .full, .saved:
        let isSaved = key.role == .saved
        if let known = fullNames[key.module] {
          guard known.isSaved != isSaved else { throw twice(tensor, key.module) }
          if isSaved { full[known.index].tensor = tensor }
        } else {
          full.append((key.module, tensor))
        }
        fullNames[key.module] = (fullNames[key.module]?.index ?? full.count - 1, isSaved)
      case .part(let part):
        let index = positions[key.module] ?? modules.count
        if index == modules.count {
          positions[key.module] = index
          modules.append(Module(path: key.module))
        }
        guard modules[index].parts.updateValue(tensor, forKey: part) == nil else {
          throw twice(tensor, "\(part) of \(key.module)")
        }
      }
    }
  }

  private func twice(_ tensor: StoredTensor, _ what: String) -> SurgeryError {
    .adapter(
      "conflict", "the file holds a tensor twice under two names", file: file,
      key: tensor.name.text, found: what, hint: "save each adapter by itself")
  }
}
