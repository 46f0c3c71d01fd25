import Checkpoints
import Tensors

/// Makes updates of the tensors under one stem, whatever dialect spelled it.
struct StemBuilder {
  /// What a module without alpha means: kohya and its readers take alpha for the rank, so the scale is 1.
  var missingAlphaMeansRank = true
  let file: String
  let options: ModuleOptions
  /// Alpha and rank rule from metadata, where the dialect has such.
  var metadata: @Sendable (_ stem: String, _ rank: Int) -> (alpha: Double, rule: RankScale)? = {
    _, _ in nil
  }
  private(set) var warnings: [String] = []
  private(set) var modulesWithoutAlpha = 0

  init(file: String, options: ModuleOptions) {
    self.file = file
    self.options = options
  }

  /// Adds all modules to an adapter, with the warnings that come up.
  ///
  /// - Parameters:
  ///   - modules: The stems with their tensors.
  ///   - adapter: Gets the modules and the warnings.
  ///   - missingAlpha: What the warning says of the scale of modules without alpha; no warning where it says `nil`.
  ///   - target: What a stem names.
  /// - Throws: What the tensors of a stem are refused with.
  mutating func build(
    _ modules: StemModules, into adapter: inout Adapter,
    missingAlpha: (_ adapter: Adapter, _ count: Int) -> String? = { _, _ in
      "scale 1"
    },
    target: (_ stem: String) -> TargetReference
  ) throws(SurgeryError) {
    for module in modules.modules {
      try build(module, target: target(module.stem), into: &adapter)
    }
    adapter.provenance.warnings += warnings
    if modulesWithoutAlpha > 0, let text = missingAlpha(adapter, modulesWithoutAlpha) {
      adapter.provenance.warnings.append(
        "\(modulesWithoutAlpha, counting: "module") without alpha: \(text)")
    }
  }

  /// Adds what a stem says to an adapter.
  private mutating func build(
    _ module: StemModules.Module, target: TargetReference, into adapter: inout Adapter
  ) throws(SurgeryError) {
    var parts = StemParts(module, file: file)
    let enlargedShape = try parts.find(.reshapeWeight).map { (tensor) throws(SurgeryError) in
      // Sizes of dimensions; none of a tensor that fits a file reaches 2^31.
      guard tensor.info.shape.rank <= 1, tensor.info.shape.elementCount <= 8 else {
        throw SurgeryError.adapter(
          "shape", "reshape_weight must list the sizes of a few dimensions", file: file,
          key: tensor.name.text, found: "\(tensor.info.shape)")
      }
      return try Factor(tensor).indices(below: 1 << 31)
    }
    let scalar = try parts.number(.scalar) ?? 1
    let alpha = try alpha(&parts)
    let magnitude = parts.find(.magnitude)
    let scaleRank: Int?
    var update: (any Update)?
    var isUnscaled = false
    if parts.has(.down) || parts.has(.up) {
      let pair = try lowRank(&parts)
      (update, scaleRank) = (pair, pair.up.columns)
    } else if parts.has(.hadaFirstA) || parts.has(.hadaSecondA) {
      let pair = try hadamard(&parts)
      (update, scaleRank) = (pair, pair.first.up.columns)
    } else if parts.has(.krFirst) || parts.has(.krFirstA) {
      let (product, rank) = try kronecker(&parts)
      (update, scaleRank) = (product, rank)
      // Both factors whole: LyCORIS takes the scale for 1, whatever alpha says (LyCORIS:lycoris/modules/lokr.py).
      isUnscaled = rank == nil
    } else if parts.has(.oftBlocks) || parts.has(.oftTriangle) {
      (update, scaleRank) = (try rotation(&parts, alpha: alpha), nil)
      isUnscaled = true
    } else if parts.has(.gloraA1) {
      let product = try generalised(&parts)
      (update, scaleRank) = (product, product.pair.up.columns)
    } else {
      scaleRank = nil
    }
    if let inner = update {
      if let magnitude { update = try decomposed(inner, magnitude) }
      let (scale, used) = scale(module.stem, alpha, isUnscaled ? nil : scaleRank)
      var made = ModuleUpdate(
        name: module.stem, target: target, update: update ?? inner,
        scale: scale.map { $0 * scalar }, alpha: used)
      made.enlargedShape = enlargedShape
      adapter.modules.append(made)
      try addBias(.upBias, target, module.stem, scale: scale, &parts, to: &adapter)
    } else if magnitude != nil {
      throw SurgeryError.adapter(
        "incomplete", "a module has magnitudes but no factors", file: file,
        key: module.stem + ".dora_scale", expected: "factors of \(module.stem)")
    }
    try addFull(target, module.stem, &parts, to: &adapter)
    try parts.finish()
  }

  /// The stored alpha, checked; zero stands for the rank.
  private mutating func alpha(_ parts: inout StemParts) throws(SurgeryError) -> Double? {
    let isConstraint = parts.has(.oftBlocks)
    guard let tensor = parts.peek(.alpha), let alpha = try parts.number(.alpha) else { return nil }
    guard alpha.isFinite else {
      throw SurgeryError.adapter(
        "bad-alpha", "the module's alpha is not finite", file: file, key: tensor.name.text,
        expected: "a finite number", found: "\(alpha)", hint: "--alpha gives it")
    }
    if alpha == 0, !isConstraint {
      warnings.append("\(tensor.name.text) is 0; taken as the rank, as the trainers do")
      return nil
    }
    return alpha
  }

  private mutating func scale(
    _ stem: String, _ alpha: Double?, _ rank: Int?
  ) -> (scale: Double?, alpha: Double?) {
    guard let rank, rank > 0 else { return (options.scale(stem, stored: 1), alpha) }
    if let alpha { return options.scale(stem, rank: rank, alpha: alpha) }
    if let (alpha, rule) = metadata(stem, rank) {
      return options.scale(stem, rank: rank, alpha: alpha, rule: rule)
    }
    modulesWithoutAlpha += 1
    return options.scale(
      stem, rank: rank, alpha: missingAlphaMeansRank ? Double(rank) : nil)
  }

  /// A change of the bias, where there is one.
  private func addBias(
    _ part: StemKey.Part, _ target: TargetReference, _ stem: String, scale: Double?,
    _ parts: inout StemParts, to adapter: inout Adapter
  ) throws(SurgeryError) {
    guard let tensor = parts.find(part) else { return }
    var target = target
    target.parameter = "bias"
    adapter.modules.append(
      ModuleUpdate(
        name: stem, target: target, update: try FullDifference(Factor(tensor)), scale: scale))
  }

  private func addFull(
    _ target: TargetReference, _ stem: String, _ parts: inout StemParts, to adapter: inout Adapter
  ) throws(SurgeryError) {
    let scale = options.scale(stem, stored: 1)
    for part in [StemKey.Part.difference, .normDifference] {
      if let tensor = parts.find(part) {
        adapter.modules.append(
          ModuleUpdate(
            name: stem, target: target, update: try FullDifference(Factor(tensor)), scale: scale))
      }
    }
    for part in [StemKey.Part.biasDifference, .normBiasDifference] {
      try addBias(part, target, stem, scale: scale, &parts, to: &adapter)
    }
    if let tensor = parts.find(.setWeight) {
      adapter.replacements.append(
        Replacement(target: target, tensor: tensor, reason: "set_weight"))
    }
    if let weight = parts.find(.ia3Weight) {
      let onInput = try parts.number(.ia3OnInput) ?? 0
      adapter.modules.append(
        ModuleUpdate(
          name: stem, target: target,
          update: try DiagonalScale(
            Factor(weight), axis: onInput != 0 ? .inputs(kernelSize: 1) : .outputs,
            isOffset: true), scale: scale))
    }
  }
}
