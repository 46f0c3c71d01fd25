import Checkpoints
import Tensors

/// Makes updates of the modules of a PEFT adapter of type LORA (peft:src/peft/tuners/lora/layer.py).
struct PEFTLoRABuilder {
  private let config: PEFTConfig?
  private let file: String
  private let options: ModuleOptions
  private let rank: Int?
  private let alpha: Double?
  private let ranks: PatternMap<Int>?
  private let alphas: PatternMap<Double>?
  private let rule: RankScale
  private let usesDoRA: Bool
  private let usesBias: Bool

  /// Rows of a factor that experts share, counted once for each: several times those of the largest models.
  private static let maximumSharedRows = 1 << 24

  init(config: PEFTConfig?, file: String, options: ModuleOptions) throws(SurgeryError) {
    self.config = config
    self.file = file
    self.options = options
    guard let config else {
      (rank, alpha, ranks, alphas) = (nil, nil, nil, nil)
      (rule, usesDoRA, usesBias) = (.alphaOverRank, false, false)
      return
    }
    try config.refuseVariants()
    rank = try config.positive("r", default: 8)
    alpha = try config.number("lora_alpha", default: 8)
    ranks = try config.ranks("rank_pattern")
    alphas = try config.alphas("alpha_pattern")
    rule = try config.flag("use_rslora") ? .alphaOverRootRank : .alphaOverRank
    usesDoRA = try config.flag("use_dora")
    usesBias = try config.flag("lora_bias")
  }

  func build(_ modules: PEFTModules, into adapter: inout Adapter) throws(SurgeryError) {
    adapter.fanInFanOut = try config?.flag("fan_in_fan_out")
    if let config, config.json["lora_alpha"] == nil {
      adapter.provenance.warnings.append(
        "adapter_config.json has no lora_alpha; PEFT's default of 8 is used")
    }
    if config != nil, !usesDoRA,
      modules.modules.contains(where: { $0.parts["lora_magnitude_vector"] != nil })
    {
      adapter.provenance.warnings.append(
        "the file has magnitudes although the configuration has no use_dora; taken as DoRA")
    }
    // Merging and running an attention alike add the change of its out_proj twice (peft:src/peft/tuners/lora/layer.py,
    // `MultiheadAttention.merge`, versions 0.14 to 0.21.2), so that is what was trained.
    if modules.modules.contains(where: { $0.path.hasSuffix(".base_layer.out_proj") }) {
      adapter.provenance.warnings.append(
        "the change of an attention's out_proj is applied twice, as PEFT does in training and merging"
      )
    }
    for module in modules.modules {
      for made in try updates(of: module) { adapter.modules.append(made) }
    }
  }

  private func updates(of module: PEFTModules.Module) throws(SurgeryError) -> [ModuleUpdate] {
    if let tokens = module.parts["trainable_tokens_delta"], module.parts.count == 1, let config {
      return [try PEFTTokens(config).update(of: module.path, tokens)]
    }
    let (ranks, general) = (ranks, rank ?? 1)
    if let experts = try PEFTExperts(
      config, rank: { ranks?[$0]?.value ?? general }
    )?.updates(
      of: module,
      scale: { path in
        self.options.scale(
          path, rank: self.ranks?[path]?.value ?? self.rank ?? 1,
          alpha: self.alphas?[path]?.value ?? self.alpha, rule: self.rule)
      })
    {
      return experts
    }
    if let expert = try tinkerExpert(module) { return [expert] }
    var parts = module.parts
    let embedding = parts["lora_embedding_A"] != nil || parts["lora_embedding_B"] != nil
    let (downName, upName) =
      embedding ? ("lora_embedding_A", "lora_embedding_B") : ("lora_A", "lora_B")
    guard let down = parts.removeValue(forKey: downName),
      let up = parts.removeValue(forKey: upName)
    else { throw incomplete(module, downName, upName) }
    if parts.isEmpty, !embedding,
      let update = try PEFTBlockDiagonal(config)?.update(of: module.path, down: down, up: up)
    {
      let (scale, alpha) = try scale(of: module.path, rank: update.rank ?? 1)
      return [
        ModuleUpdate(
          name: module.path, target: TargetReference(module: module.path), update: update,
          scale: scale, alpha: alpha)
      ]
    }
    let update = try lowRank(module.path, down: down, up: up, embedding: embedding)
    let (scale, usedAlpha) = try scale(of: module.path, rank: update.up.columns)
    let magnitude = parts.removeValue(forKey: "lora_magnitude_vector")
    if usesDoRA, magnitude == nil {
      throw SurgeryError.adapter(
        "incomplete", "adapter_config.json has use_dora, but a module lacks its magnitudes",
        file: file, key: down.name.text, expected: "\(module.path).lora_magnitude_vector",
        found: "none")
    }
    var made = [
      ModuleUpdate(
        name: module.path, target: TargetReference(module: module.path),
        update: try magnitude.map { (tensor) throws(SurgeryError) in
          try decomposed(update, tensor, embedding: embedding)
        } ?? update, scale: scale, alpha: usedAlpha)
    ]
    if module.path.hasSuffix(".base_layer.out_proj") { made[0].repetitions = 2 }
    if let bias = parts.removeValue(forKey: "lora_B.bias") {
      made.append(
        ModuleUpdate(
          name: module.path, target: TargetReference(module: module.path, parameter: "bias"),
          update: try FullDifference(Factor(bias)), scale: scale, alpha: usedAlpha))
    }
    if let (part, tensor) = parts.min(by: { $0.key < $1.key }) {
      throw SurgeryError.adapter(
        "unknown-key", "the tensor has no meaning in this adapter", file: file,
        key: tensor.name.text, found: part)
    }
    return made
  }

  /// Tinker stores experts in three dimensions, experts first; a single one is shared by all
  /// (tinker-cookbook:tinker_cookbook/weights/; dialects.md, section 10).
  private func tinkerExpert(_ module: PEFTModules.Module) throws(SurgeryError) -> ModuleUpdate? {
    guard PEFTReader.isTinkerExpert(module.path), module.parts.count == 2,
      let down = module.parts["lora_A"], let up = module.parts["lora_B"],
      down.info.shape.rank == 3, up.info.shape.rank == 3
    else { return nil }
    let (first, second) = (down.info.shape.dimensions, up.info.shape.dimensions)
    let experts = max(first[0], second[0])
    guard first[0] == experts || first[0] == 1, second[0] == experts || second[0] == 1,
      first[1] == second[2]
    else {
      throw SurgeryError.adapter(
        "shape", "the factors of the experts do not fit each other", file: file,
        key: up.name.text, expected: "experts x out x \(first[1])", found: "\(up.info.shape)")
    }
    for (tensor, shape) in [(down, first), (up, second)] where shape[0] != experts {
      guard experts * shape[1] <= Self.maximumSharedRows else {
        throw SurgeryError.adapter(
          "shape", "a factor is shared by impossibly many experts", file: file,
          key: tensor.name.text, expected: "at most \(Self.maximumSharedRows) rows in all",
          found: "\(experts) times \(tensor.info.shape)")
      }
    }
    func forAll(_ tensor: StoredTensor, _ shape: [Int]) -> Factor {
      let rows = Factor(tensor).reshaped(rows: shape[0] * shape[1], columns: shape[2])
      if shape[0] == experts { return rows }
      return rows.rows(in: (0..<(experts * shape[1])).map { $0 % shape[1] })
    }
    let update = try StackedLowRank(
      up: forAll(up, second), down: forAll(down, first), rank: first[1], square: .straight,
      isExpertMajor: true)
    let (scale, alpha) = options.scale(
      module.path, rank: max(first[1], 1), alpha: alphas?[module.path]?.value ?? alpha, rule: rule)
    return ModuleUpdate(
      name: module.path, target: TargetReference(module: module.path), update: update,
      scale: scale, alpha: alpha)
  }

  private func incomplete(
    _ module: PEFTModules.Module, _ down: String, _ up: String
  ) -> SurgeryError {
    let present = module.parts.values.map(\.name.text).sorted()
    return .adapter(
      "incomplete", "a module lacks one of its factors", file: file, key: present.first,
      expected: "both \(module.path).\(down) and \(module.path).\(up)", found: present.listed())
  }

  private func lowRank(
    _ path: String, down: StoredTensor, up: StoredTensor, embedding: Bool
  ) throws(SurgeryError) -> LowRank {
    for tensor in [down, up] where tensor.info.shape.rank < 2 {
      throw SurgeryError.adapter(
        "shape", "a factor must be a matrix or the kernel of a convolution", file: file,
        key: tensor.name.text, expected: "at least 2 dimensions", found: "\(tensor.info.shape)")
    }
    if embedding {
      return try LowRank(
        up: Factor(down).transposed(), down: Factor(up).transposed(), form: .embedding)
    }
    guard down.info.shape.rank == up.info.shape.rank else {
      throw SurgeryError.adapter(
        "shape", "one factor is of a convolution, the other is not", file: file,
        key: up.name.text, expected: "\(down.info.shape.rank) dimensions as \(down.name.text) has",
        found: "\(up.info.shape)")
    }
    let kernel = Array(down.info.shape.dimensions.dropFirst(2))
    return try LowRank(
      up: Factor(up), down: Factor(down),
      form: kernel.isEmpty ? .linear : .convolution(kernel: kernel))
  }

  /// Magnitudes go with outputs, but with the columns of an embedding, whose rows are the vocabulary
  /// (peft:src/peft/tuners/lora/dora.py, `DoraEmbeddingLayer`).
  private func decomposed(
    _ update: LowRank, _ magnitude: StoredTensor, embedding: Bool
  ) throws(SurgeryError) -> any Update {
    let factor = Factor(magnitude).reshaped(
      rows: magnitude.info.shape.elementCount, columns: 1)
    return try Decomposed(
      update, magnitude: factor, axis: embedding ? .inputs(kernelSize: 1) : .outputs,
      convention: .peft)
  }

  /// The scale of a module, after its rank was compared with what the configuration says.
  private func scale(
    of path: String, rank stored: Int
  ) throws(SurgeryError) -> (scale: Double?, alpha: Double?) {
    if let config, let rank {
      let hit = ranks?[path]
      if (hit?.value ?? rank) != stored {
        throw SurgeryError.adapter(
          "config", "rank of configuration and tensors differ for module \(path)",
          file: config.path,
          expected: hit.map { "\($0.value) (rank_pattern \"\($0.pattern)\")" } ?? "\(rank) (r)",
          found: "rank \(stored) of \(path).lora_A",
          hint: "correct r or rank_pattern, or give the factor with --scale")
      }
    }
    return options.scale(
      path, rank: max(stored, 1), alpha: alphas?[path]?.value ?? alpha, rule: rule)
  }
}
