import Checkpoints
import Tensors

/// Writes MLX: a folder with `adapters.safetensors` (or `.npz`) and `adapter_config.json`
/// (mlx-lm:mlx_lm/tuner/utils.py, `load_adapters`).
///
/// MLX has one rank and one scale. Smaller ranks are padded with zeros and other scales multiplied into `lora_b`; both leave
/// the change as it is, the second up to the rounding of the factors.
struct MLXWriter: DialectWriter {
  static let dialect = Dialect.mlx

  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    guard FileFormat(extensionOf: path) == nil else {
      throw SurgeryError(
        .usage, "adapter.output", "an MLX adapter is a folder", file: path,
        hint: "give a name without an extension")
    }
    if let replacement = adapter.replacements.first {
      throw SurgeryError.inexpressible(
        "a tensor stored in full (\(replacement.reason))", in: .mlx,
        replacement.target.tensorName)
    }
    var writer = MLXWriter(
      file: AdapterFileBuilder(dtype: options.dtype),
      rank: adapter.modules.compactMap(\.update.rank).max() ?? 1,
      scale: PEFTRanks.commonest(adapter.modules.compactMap(\.scale)) ?? 1)
    for module in adapter.modules { try writer.add(module) }
    let decomposed = adapter.modules.count { $0.update is Decomposed }
    guard decomposed == 0 || decomposed == adapter.modules.count else {
      throw SurgeryError.inexpressible("modules with and without magnitudes", in: .mlx)
    }
    let config = writer.config(of: adapter, usesDoRA: decomposed > 0)
    return AdapterPlan(
      plan: CheckpointPlan(
        path: path, kind: .folder,
        files: [
          TensorFilePlan(
            relativePath: "adapters.\(options.format.rawValue)", format: options.format,
            tensors: writer.file.infos,
            metadata: options.format == .safetensors ? ["format": "mlx"] : [:])
        ],
        extras: [
          .init(
            relativePath: "adapter_config.json",
            content: .bytes(Array((config.text(indent: 4) + "\n").utf8)))
        ]), contents: [writer.file.contents], notes: writer.notes)
  }

  private var file: AdapterFileBuilder
  private let rank: Int
  private let scale: Double
  private var paths: [String] = []
  private var notes: [String] = []

  private init(file: AdapterFileBuilder, rank: Int, scale: Double) {
    self.file = file
    self.rank = rank
    self.scale = scale
  }

  private mutating func add(_ module: ModuleUpdate) throws(SurgeryError) {
    let path = try module.dottedModule(for: .mlx)
    guard module.target.parameter == "weight" else {
      throw SurgeryError.noWeight(module, in: .mlx)
    }
    var update = module.update
    if let decomposed = update as? Decomposed, decomposed.axis == .outputs {
      update = decomposed.inner
      try file.add("\(path).m", decomposed.magnitude, shape: [decomposed.magnitude.count])
    }
    guard let pair = update as? LowRank, pair.core == nil,
      pair.form == .linear || pair.form == .embedding
    else {
      throw SurgeryError.inexpressible(module.update, in: .mlx, module.name)
    }
    paths.append(path)
    let own = try module.knownScale()
    let factor = own == scale || scale == 0 ? 1 : own / scale
    if factor != 1 {
      notes.append("\(path): scale \(own) is multiplied into lora_b, since MLX has one scale")
    }
    let isEmbedding = pair.form == .embedding
    let a = isEmbedding ? pair.up : pair.down.transposed()
    let b = isEmbedding ? pair.down : pair.up.transposed()
    let missing = rank - pair.up.columns
    if missing == 0 {
      try file.add("\(path).lora_a", a)
      try file.add("\(path).lora_b", b, scale: factor)
      return
    }
    notes.append("\(path): rank \(pair.up.columns) is padded with zeros to \(rank)")
    try file.addPadded("\(path).lora_a", a, rows: a.rows, columns: rank, scale: 1)
    try file.addPadded("\(path).lora_b", b, rows: rank, columns: b.columns, scale: factor)
  }

  private func config(of adapter: Adapter, usesDoRA: Bool) -> JSONValue {
    var keys: [String] = []
    var layers: [Int] = []
    for path in paths {
      let parts = path.split(separator: ".").map(String.init)
      if let index = parts.firstIndex(where: { Int($0) != nil }), let layer = Int(parts[index]) {
        layers.append(layer)
        let key = parts[(index + 1)...].joined(separator: ".")
        if !keys.contains(key) { keys.append(key) }
      } else if !keys.contains(path) {
        keys.append(path)
      }
    }
    let count = (layers.max() ?? 0) - (layers.min() ?? 0) + 1
    return .object([
      .init("fine_tune_type", .string(usesDoRA ? "dora" : "lora")),
      .init("num_layers", .integer(layers.isEmpty ? -1 : count)),
      .init(
        "lora_parameters",
        .object([
          .init("rank", .integer(rank)), .init("scale", .double(scale)),
          .init("dropout", .double(0)), .init("keys", .array(keys.map { .string($0) })),
        ])),
      .init("model", adapter.provenance.baseName.map { .string($0) } ?? .null),
    ])
  }
}
