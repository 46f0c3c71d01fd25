import Checkpoints
import Tensors

/// Writes diffusers' layout of today: PEFT's keys under component prefixes, the configuration in the metadata
/// (diffusers:src/diffusers/loaders/lora_base.py, `_pack_dict_with_prefix`).
struct DiffusersWriter: DialectWriter {
  static let dialect = Dialect.diffusers

  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    var writer = DiffusersWriter(file: AdapterFileBuilder(dtype: options.dtype))
    for module in adapter.modules { try writer.add(module, options.prefix) }
    if let replacement = adapter.replacements.first {
      throw SurgeryError.inexpressible(
        "a tensor stored in full (\(replacement.reason))", in: .diffusers,
        replacement.target.tensorName, hint: "--to peft or compact can hold it")
    }
    return AdapterPlan(
      writer.file, to: path, inFolderAs: "pytorch_lora_weights", options,
      metadata: ["format": "pt", "lora_adapter_metadata": writer.metadata().text()])
  }

  private var file: AdapterFileBuilder
  private var modules: [(prefix: String, path: String, rank: Int, alpha: Double)] = []
  private var hasDoRA = false

  private init(file: AdapterFileBuilder) { self.file = file }

  private mutating func add(_ module: ModuleUpdate, _ given: String?) throws(SurgeryError) {
    let dotted = try module.dottedModule(for: .diffusers)
    let (named, _, rest) = ComponentPrefix.split(dotted)
    let prefix =
      switch module.target.component ?? named {
      case .textEncoder(let number): number == 1 ? "text_encoder" : "text_encoder_\(number)"
      case .denoiser, nil: given ?? (Self.isUNet(rest) ? "unet" : "transformer")
      }
    let key = "\(prefix).\(rest)"
    var update = module.update
    if let decomposed = update as? Decomposed, decomposed.axis == .outputs {
      update = decomposed.inner
      hasDoRA = true
      try file.add(
        "\(key).lora_magnitude_vector", decomposed.magnitude, shape: [decomposed.magnitude.count])
    }
    guard module.target.parameter == "weight" else {
      throw SurgeryError.noWeight(module, in: .diffusers)
    }
    guard let pair = update as? LowRank, pair.core == nil, pair.form != .embedding else {
      throw SurgeryError.inexpressible(module.update, in: .diffusers, module.name)
    }
    let rank = pair.up.columns
    modules.append((prefix, String(rest), rank, try module.knownScale() * Double(rank)))
    var kernel: [Int] = []
    if case .convolution(let own) = pair.form { kernel = own }
    let inputs = pair.down.columns / max(kernel.reduce(1, *), 1)
    try file.add("\(key).lora_A.weight", pair.down, shape: [rank, inputs] + kernel)
    try file.add(
      "\(key).lora_B.weight", pair.up, shape: [pair.up.rows, rank] + kernel.map { _ in 1 })
  }

  private static func isUNet(_ path: Substring) -> Bool {
    ["down_blocks", "up_blocks", "mid_block", "conv_in", "conv_out", "time_embedding"].contains {
      path.hasPrefix($0)
    }
  }

  /// One configuration a component, its keys under the component's prefix.
  private func metadata() -> JSONValue {
    var members: [JSONValue.Member] = []
    for prefix in Set(modules.map(\.prefix)).sorted() {
      let own = modules.filter { $0.prefix == prefix }
      let rank = PEFTRanks.commonest(own.map(\.rank)) ?? 8
      let alpha = PEFTRanks.commonest(own.map(\.alpha)) ?? Double(rank)
      members += [
        .init("\(prefix).peft_type", .string("LORA")),
        .init("\(prefix).r", .integer(rank)),
        .init("\(prefix).lora_alpha", .double(alpha)),
        .init(
          "\(prefix).rank_pattern",
          .object(own.filter { $0.rank != rank }.map { .init($0.path, .integer($0.rank)) })),
        .init(
          "\(prefix).alpha_pattern",
          .object(own.filter { $0.alpha != alpha }.map { .init($0.path, .double($0.alpha)) })),
        .init("\(prefix).target_modules", .array(own.map { .string($0.path) })),
        .init("\(prefix).use_dora", .bool(hasDoRA)),
        .init("\(prefix).bias", .string("none")),
        .init("\(prefix).init_lora_weights", .bool(true)),
      ]
    }
    return .object(members)
  }
}
