import Checkpoints
import Tensors

/// Writes loralib's state dict, which has no place for a scale: one alpha for all is told to the user, else scales are
/// multiplied into `lora_B`.
enum LoralibWriter: DialectWriter {
  static let dialect = Dialect.loralib

  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    var file = AdapterFileBuilder(dtype: options.dtype)
    var alphas: [Double] = []
    for module in adapter.modules {
      alphas.append(try module.knownScale() * Double(module.update.rank ?? 1))
    }
    let common = Set(alphas).count == 1 ? alphas.first : nil
    for module in adapter.modules {
      let name = try module.dottedModule(for: .loralib)
      guard module.target.parameter == "weight" else {
        throw SurgeryError.noWeight(module, in: .loralib)
      }
      guard let pair = module.update as? LowRank, pair.core == nil else {
        throw SurgeryError.inexpressible(module.update, in: .loralib, module.name)
      }
      if case .convolution = pair.form {
        throw SurgeryError.inexpressible(
          "a convolution, whose factors loralib lays out otherwise,", in: .loralib, module.name)
      }
      let scale = common == nil ? try module.knownScale() : 1
      let isEmbedding = pair.form == .embedding
      try file.add("\(name).lora_A", isEmbedding ? pair.up.transposed() : pair.down)
      try file.add(
        "\(name).lora_B", isEmbedding ? pair.down.transposed() : pair.up, scale: scale)
    }
    for replacement in adapter.replacements {
      guard replacement.target.parameter == "bias" else {
        throw SurgeryError.inexpressible(
          "a tensor stored in full (\(replacement.reason))", in: .loralib,
          replacement.target.tensorName, hint: "--to peft or compact can hold it")
      }
      try file.add(replacement.target.tensorName, full: replacement.tensor)
    }
    let note =
      common.map { "loralib stores no scale: build the layers with lora_alpha=\($0)" }
      ?? "loralib stores no scale: it is multiplied into lora_B; build the layers with lora_alpha=r"
    return AdapterPlan(file, to: path, inFolderAs: "lora", options, notes: [note])
  }
}
