import Checkpoints
import Tensors

/// Writes llama.cpp's adapters: one GGUF file with one alpha (llama.cpp:convert_lora_to_gguf.py).
///
/// The alpha that most modules have is written; where a module's scale differs, `lora_b` is multiplied, so that
/// `alpha / rank` times the product is the change.
struct GGUFAdapterWriter: DialectWriter {
  static let dialect = Dialect.gguf

  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    guard FileFormat(extensionOf: path) == .gguf else {
      throw SurgeryError(
        .usage, "adapter.output", "a GGUF adapter is one file", file: path,
        hint: "give a name that ends in .gguf")
    }
    if let replacement = adapter.replacements.first {
      throw SurgeryError.inexpressible(
        "a tensor stored in full (\(replacement.reason))", in: .gguf,
        replacement.target.tensorName, hint: "llama.cpp takes low-rank factors only")
    }
    var alphas: [Double] = []
    for module in adapter.modules {
      let alpha = try module.knownScale() * Double(module.update.rank ?? 1)
      // llama.cpp takes an alpha of 0 for a scale of 1.
      if alpha != 0 { alphas.append(alpha) }
    }
    // The metadata holds a single-precision number, so that is what scales are measured by.
    let alpha = Double(Float(PEFTRanks.commonest(alphas) ?? 1))
    var writer = GGUFAdapterWriter(
      file: AdapterFileBuilder(dtype: options.dtype), names: try names(of: adapter), alpha: alpha,
      heads: AttentionHeads(config: adapter.provenance.baseConfig))
    for module in adapter.modules { try writer.add(module) }
    var metadata = GGUFMetadata()
    metadata["general.architecture"] = .string(writer.names.architecture)
    metadata["general.type"] = .string("adapter")
    metadata["adapter.type"] = .string("lora")
    metadata["adapter.lora.alpha"] = .f32(Float(alpha))
    if let name = adapter.provenance.baseName {
      metadata["general.base_model.count"] = .u32(1)
      metadata["general.base_model.0.name"] = .string(name)
    }
    var file = TensorFilePlan(
      relativePath: Places.name(in: path).whole, format: .gguf,
      tensors: writer.file.infos, metadata: metadata.texts)
    file.ggufMetadata = metadata
    return AdapterPlan(
      plan: CheckpointPlan(path: path, kind: .file, files: [file]),
      contents: [writer.file.contents], notes: writer.notes)
  }

  private var file: AdapterFileBuilder
  private let names: GGUFNames
  private let alpha: Double
  private let heads: AttentionHeads?
  private var notes: [String] = []

  private init(file: AdapterFileBuilder, names: GGUFNames, alpha: Double, heads: AttentionHeads?) {
    self.file = file
    self.names = names
    self.alpha = alpha
    self.heads = heads
  }

  /// The architecture: that of the base's configuration, or of the GGUF file that the adapter comes from.
  private static func names(of adapter: Adapter) throws(SurgeryError) -> GGUFNames {
    if let type = adapter.provenance.baseConfig?["model_type"]?.text {
      if let names = GGUFNames(modelType: type) { return names }
      throw SurgeryError.unsupportedAdapter(
        "how llama.cpp names the tensors of this model type is not known",
        id: "unsupported-layout", file: adapter.path, found: type)
    }
    if let known = adapter.provenance.metadata["general.architecture"] {
      return GGUFNames(architecture: known)
    }
    throw SurgeryError.adapter(
      "no-architecture", "GGUF names the architecture of the base, which nothing tells",
      file: adapter.path, expected: "model_type in the base's config.json",
      hint: "--base gives the model, or a folder with its config.json")
  }

  private mutating func add(_ module: ModuleUpdate) throws(SurgeryError) {
    let path = try module.dottedModule(for: .gguf)
    guard let name = names.name(of: path) else {
      throw SurgeryError.inexpressible(
        "a module that \(names.architecture) does not have in llama.cpp", in: .gguf, path)
    }
    guard module.target.parameter == "weight" else {
      throw SurgeryError.inexpressible("a change of \(module.target.parameter)", in: .gguf, path)
    }
    let pair = try pair(of: module, name, path)
    let own = try module.knownScale() * Double(pair.up.columns)
    let factor = alpha == own ? 1 : own / alpha
    if factor != 1 {
      notes.append("\(path): alpha \(own) is multiplied into lora_b, since GGUF has one alpha")
    }
    if pair.form == .embedding {
      try file.add("\(name).weight.lora_a", pair.up)
      try file.add("\(name).weight.lora_b", pair.down.transposed(), scale: factor)
    } else {
      try file.add("\(name).weight.lora_a", pair.down)
      try file.add("\(name).weight.lora_b", pair.up, scale: factor)
    }
  }

  /// The factors as llama.cpp has them: linear or the embedding's, rows of queries and keys in its order.
  private func pair(
    of module: ModuleUpdate, _ name: String, _ path: String
  ) throws(SurgeryError) -> LowRank {
    if let permuted = module.update as? HeadPermuted { return permuted.inner }
    guard var pair = module.update as? LowRank, pair.core == nil,
      pair.form == .linear || (pair.form == .embedding && name == "token_embd")
    else {
      throw SurgeryError.inexpressible(module.update, in: .gguf, path)
    }
    guard let order = names.permutation(of: name) else { return pair }
    pair.up = try pair.up.interleavingHeads(
      heads, isKey: order == .keys, for: .gguf, back: false)
    return pair
  }
}
