import Checkpoints
import Tensors

/// Apple's MLX: factors transposed, the scale itself in the configuration (mlx-lm:mlx_lm/tuner/lora.py, dora.py;
/// dialects.md, section 12).
enum MLXReader: DialectReader {
  static func recognises(_ files: AdapterFiles) -> String? {
    if let config = files.config, config["peft_type"] == nil,
      config["lora_parameters"] != nil || config["fine_tune_type"] != nil
        || config["lora_layers"] != nil
    {
      return "adapter_config.json has lora_parameters or fine_tune_type"
    }
    guard files.config == nil,
      let tensor = files.tensors.first(where: {
        $0.name.text.hasSuffix(".lora_a") && $0.info.shape.rank == 2
      }),
      let other = files.tensors.first(where: {
        $0.name.text == String(tensor.name.text.dropLast()) + "b"
      })
    else { return nil }
    return tensor.info.shape.columns == other.info.shape.rows
      ? "keys such as \(DisplayText.escaped(tensor.name.text)), in x rank" : nil
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    var adapter = Adapter(
      path: files.path, modules: [], provenance: .init(dialect: .mlx, reason: reason))
    adapter.provenance.metadata = files.metadata
    adapter.provenance.config = files.config
    adapter.provenance.baseName = files.config?["model"]?.text
    adapter.provenance.warnings = files.file.warnings
    if files.config?["fine_tune_type"]?.text == "full" {
      for tensor in files.tensors { try LoralibReader.addStored(tensor, to: &adapter) }
      return adapter
    }
    let scaling = try MLXScale(files, options: options)
    var modules: [(path: String, parts: [String: StoredTensor])] = []
    var positions: [String: Int] = [:]
    for tensor in files.tensors {
      let (path, leaf) = ModuleUpdate.split(tensor.name.text)
      guard ["lora_a", "lora_b", "m"].contains(leaf) else {
        try LoralibReader.addStored(tensor, to: &adapter)
        continue
      }
      let index = positions[path] ?? modules.count
      if index == modules.count {
        positions[path] = index
        modules.append((path, [:]))
      }
      modules[index].parts[leaf] = tensor
    }
    for (path, parts) in modules {
      adapter.modules.append(try update(path, parts, scaling, file: files.file.file.path))
    }
    return adapter
  }

  private static func update(
    _ path: String, _ parts: [String: StoredTensor], _ scaling: MLXScale, file: String
  ) throws(SurgeryError) -> ModuleUpdate {
    guard let a = parts["lora_a"], let b = parts["lora_b"] else {
      throw SurgeryError.adapter(
        "incomplete", "a module lacks one of its factors", file: file,
        key: parts.values.map(\.name.text).min(),
        expected: "both \(path).lora_a and \(path).lora_b", found: "one")
    }
    var update: any Update
    if b.info.shape.rank == 3 {
      update = try stack(a, b, file: file)
    } else {
      let isEmbedding = BaseNames.isEmbeddingModule(path)
      update =
        isEmbedding
        ? try LowRank(up: Factor(a), down: Factor(b), form: .embedding)
        : try LowRank(up: Factor(b).transposed(), down: Factor(a).transposed())
    }
    let rank = update.rank ?? 1
    if let magnitude = parts["m"] {
      // Per row of the weight, and per word of an embedding (mlx-lm:mlx_lm/tuner/dora.py).
      update = try Decomposed(
        update, magnitude: Factor(magnitude), axis: .outputs, convention: .peft)
    }
    let scale = scaling.scale(path, rank: rank)
    return ModuleUpdate(
      name: path, target: TargetReference(module: path), update: update, scale: scale,
      alpha: scale.map { $0 * Double(rank) })
  }

  /// Switch layers: `lora_a` is `experts x rank x in`, or its first two dimensions as one in older files.
  private static func stack(
    _ a: StoredTensor, _ b: StoredTensor, file: String
  ) throws(SurgeryError) -> any Update {
    let shape = b.info.shape.dimensions
    let (experts, out, rank) = (shape[0], shape[1], shape[2])
    let inputs = a.info.shape.dimensions.last ?? 0
    guard a.info.shape.elementCount == experts * rank * inputs else {
      throw SurgeryError.adapter(
        "shape", "the factors of a switch layer do not fit each other", file: file,
        key: a.name.text, expected: "\(experts) x \(rank) x in", found: "\(a.info.shape)")
    }
    return try StackedLowRank(
      up: Factor(b).reshaped(rows: experts * out, columns: rank),
      down: Factor(a).reshaped(rows: experts * rank, columns: inputs), rank: rank,
      square: .straight, isExpertMajor: true)
  }
}

/// The scale of an MLX adapter, which is stored as it is used.
struct MLXScale {
  private let stored: Double?
  private let alpha: Double?
  private let options: ModuleOptions

  init(_ files: AdapterFiles, options: AdapterOptions) throws(SurgeryError) {
    self.options = try ModuleOptions(options)
    let parameters = files.config?["lora_parameters"]
    func number(_ field: String) throws(SurgeryError) -> Double? {
      guard let value = parameters?[field], !value.isNull else { return nil }
      guard let number = value.double, number.isFinite else {
        throw SurgeryError.adapter(
          "config", "adapter_config.json: field lora_parameters.\(field) is wrong",
          file: files.configPath, expected: "a finite number",
          found: String(value.text().prefix(40)))
      }
      return number
    }
    stored = try number("scale")
    alpha = try number("alpha")
    // Until mlx-lm 0.14.1 the scale was multiplied by alpha / rank; later versions ignored the alpha that configurations
    // still had.
    if alpha != nil, options.rankScale == nil, options.scales.isEmpty {
      throw SurgeryError.adapter(
        "ambiguous-scale", "adapter_config.json has both scale and alpha",
        file: files.configPath, expected: "scale alone",
        found: "lora_parameters.alpha (used until mlx-lm 0.14.1, then ignored)",
        hint: "--rank-scale none takes the scale as it is, alpha/r multiplies it; or give --scale")
    }
  }

  func scale(_ module: String, rank: Int) -> Double? {
    guard var scale = stored else {
      return options.scale(module, rank: max(rank, 1), alpha: nil).scale
    }
    if let alpha, let rule = options.rankScale, rule != .none {
      scale *= rule.scale(alpha: alpha, rank: max(rank, 1))
    }
    return options.scale(module, stored: scale)
  }
}
