import Checkpoints
import Tensors

/// The other methods of PEFT whose files and base suffice.
extension PEFTMethodBuilder {
  /// The divisor is the initial rank, not the pruned one, with PEFT's epsilon (peft:src/peft/tuners/adalora/layer.py).
  func adaLoRA(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let update = try WeightedLowRank(
      algorithm: "adalora", up: try parts.matrix("lora_B"), down: try parts.matrix("lora_A"),
      ranks: Factor(try parts.take("lora_E")))
    let initial = Double(try config.positive("init_r", default: 12))
    let alpha = try config.number("lora_alpha", default: 8)
    let stored = (alpha > 0 ? alpha : initial) / (initial + 1e-5)
    return made(parts, update, scale: options.scale(parts.path, stored: stored), alpha: alpha)
  }

  /// Both matrices are shared by all modules, which use the part that fits them (peft:src/peft/tuners/vera/layer.py).
  func vera(
    _ parts: inout PEFTParts, _ shared: PEFTModules.Module?
  ) throws(SurgeryError) -> ModuleUpdate {
    guard let shared, let down = shared.parts["vera_A"], let up = shared.parts["vera_B"] else {
      throw SurgeryError.adapter(
        "incomplete", "the shared matrices of VeRA are not in the file", file: file,
        expected: "base_model.vera_A and base_model.vera_B",
        found: "none (save_projection false)", hint: "save the adapter with save_projection=True")
    }
    let outputs = Factor(try parts.take("vera_lambda_b"))
    let update = try WeightedLowRank(
      algorithm: "vera", up: Factor(up), down: Factor(down), outputs: outputs,
      ranks: Factor(try parts.take("vera_lambda_d")))
    return made(parts, update)
  }

  func hira(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    if let down = parts.find("hira_embedding_A") {
      let up = try parts.matrix("hira_embedding_B")
      return made(
        parts,
        BaseHadamard(
          try LowRank(
            up: Factor(down).transposed(), down: up.transposed(), form: .embedding)))
    }
    let (up, down) = (try parts.matrix("hira_B"), try parts.matrix("hira_A"))
    return made(parts, BaseHadamard(try LowRank(up: up, down: down)))
  }

  func deLoRA(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let update = try WeightedLowRank(
      algorithm: "delora", up: try parts.matrix("delora_B"), down: try parts.matrix("delora_A"),
      inputs: Factor(try parts.take("delora_w_norm")),
      boundary: Factor(try parts.take("delora_lambda")))
    return made(parts, update)
  }

  func hra(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    if try config.flag("apply_GS") {
      throw SurgeryError.unsupportedAdapter(
        "adapter_config.json: field apply_GS is not computed", file: config.path)
    }
    return made(parts, try Reflections(try parts.matrix("hra_u")))
  }

  func c3a(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let kernel = try parts.take("c3a_kernel")
    let shape = kernel.info.shape.dimensions
    guard shape.count == 3 else {
      throw SurgeryError.adapter(
        "shape", "a kernel of C3A has three dimensions", file: file, key: kernel.name.text,
        found: "\(kernel.info.shape)")
    }
    return made(
      parts,
      try PatternedDifference(
        algorithm: "c3a", values: Factor(kernel),
        layout: .circulant(blockRows: shape[0], blockColumns: shape[1], size: shape[2])))
  }

  func shira(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let values = try parts.take("shira_weight")
    let places = Factor(try parts.take("shira_indices"))
    guard places.rows == 2, places.columns == values.info.shape.elementCount else {
      throw SurgeryError.adapter(
        "shape", "SHiRA's places do not fit its values", file: file,
        key: places.tensor.name.text, expected: "2 x \(values.info.shape.elementCount)",
        found: "\(places.tensor.info.shape)")
    }
    return made(
      parts,
      try PatternedDifference(
        algorithm: "shira", values: Factor(values),
        layout: .sparse(rows: places.rows(0..<1), columns: places.rows(1..<2))))
  }

  func miss(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let variant = config.json["init_weights"]?.text
    if let variant, variant != "mini" {
      throw SurgeryError.unsupportedAdapter(
        "adapter_config.json: this variant of MiSS is not computed", file: config.path,
        found: "init_weights \"\(variant)\"")
    }
    var update = try PatternedDifference(
      algorithm: "miss", values: try parts.matrix("miss_block"), layout: .tiled)
    update.repeatsOutputs = variant == "mini"
    return made(parts, update)
  }
}
