import Checkpoints
import Tensors

/// kohya's sd-scripts and LyCORIS: one file, modules joined by underscores (dialects.md, sections 7 and 8).
enum KohyaReader: DialectReader {
  /// Prefixes of stems with the component that they name.
  static let prefixes: [(prefix: String, component: TargetReference.Component?)] = [
    ("lora_unet_", .denoiser), ("lora_te1_", .textEncoder(1)), ("lora_te2_", .textEncoder(2)),
    ("lora_te3_", .textEncoder(3)), ("lora_te4_", .textEncoder(4)), ("lora_te_", .textEncoder(1)),
    ("lora_transformer_", .denoiser), ("lora_prior_unet_", .denoiser),
    ("lora_prior_te_", .textEncoder(1)), ("oft_unet_", .denoiser), ("lycoris_", nil),
    ("lora_", nil),
  ]

  static func recognises(_ files: AdapterFiles) -> String? {
    if let module = files.metadata["ss_network_module"] {
      return "metadata: ss_network_module \(module)"
    }
    for tensor in files.tensors {
      guard let (stem, _, family) = StemKey.split(tensor.name.text), !stem.contains("."),
        family == .kohya || family == .lycoris
      else { continue }
      return "keys joined by underscores, such as \(DisplayText.escaped(tensor.name.text))"
    }
    return nil
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    try refuseControl(files)
    try refuseMixedNames(files)
    let modules = try StemModules(files)
    try modules.refusePlain()
    var adapter = Adapter(
      path: files.path, modules: [], provenance: .init(dialect: .kohya, reason: reason))
    adapter.provenance.metadata = files.metadata
    adapter.provenance.baseName = files.metadata["ss_sd_model_name"]
    adapter.provenance.baseHash = files.metadata["ss_sd_model_hash"]
    adapter.provenance.warnings = files.file.warnings + modules.warnings
    var builder = StemBuilder(
      file: files.file.file.path, options: try ModuleOptions(options))
    try builder.build(modules, into: &adapter, target: target)
    return adapter
  }

  /// The target of a stem: its component by the prefix, the rest to be looked up.
  static func target(_ stem: String) -> TargetReference {
    for (prefix, component) in prefixes where stem.hasPrefix(prefix) {
      let rest = String(stem.dropFirst(prefix.count))
      return TargetReference(
        module: rest, spelling: rest.contains(".") ? .dotted : .underscored, component: component)
    }
    return TargetReference(
      module: stem, spelling: stem.contains(".") ? .dotted : .underscored)
  }

  /// The blocks of a UNet are numbered in two ways; a file that uses both was put together wrongly.
  static func refuseMixedNames(_ files: AdapterFiles) throws(SurgeryError) {
    func first(_ prefixes: [String]) -> StoredTensor? {
      files.tensors.first { tensor in prefixes.contains { tensor.name.text.hasPrefix($0) } }
    }
    if let stability = first(["lora_unet_input_blocks_", "lora_unet_output_blocks_"]),
      let diffusers = first(["lora_unet_down_blocks_", "lora_unet_up_blocks_"])
    {
      throw SurgeryError.adapter(
        "conflict", "the file uses two ways of naming the blocks of a UNet",
        key: stability.name.text, expected: "input_blocks or down_blocks",
        found: "also \(diffusers.name.text)")
    }
  }

  /// Control networks look like LoRA but change activations.
  static func refuseControl(_ files: AdapterFiles) throws(SurgeryError) {
    guard let tensor = files.tensors.first(where: { $0.name.text.hasPrefix("lllite_unet") }) else {
      return
    }
    throw SurgeryError.adapter(
      "not-adapter", "this is a ControlNet-LLLite, which changes activations, not weights",
      key: tensor.name.text)
  }
}
