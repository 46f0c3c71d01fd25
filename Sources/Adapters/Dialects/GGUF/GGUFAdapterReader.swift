import Checkpoints
import Tensors

/// Reads llama.cpp's adapters: `NAME.weight.lora_a` and `.lora_b`, one alpha in the metadata
/// (llama.cpp:src/llama-adapter.cpp; dialects.md, section 11).
enum GGUFAdapterReader: DialectReader {
  static let dialect = Dialect.gguf

  static func recognises(_ files: AdapterFiles) -> String? {
    files.file.ggufMetadata.string("general.type") == "adapter"
      ? "GGUF of general.type adapter" : nil
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    let metadata = files.file.ggufMetadata
    guard files.file.format == .gguf, metadata.string("general.type") == "adapter" else {
      throw SurgeryError.adapter(
        "not-adapter", "this is no GGUF adapter", file: files.path,
        expected: "general.type adapter",
        found: metadata.string("general.type") ?? files.file.format.rawValue)
    }
    try check(metadata, file: files.path)
    let names = GGUFNames(architecture: metadata.string("general.architecture") ?? "")
    let alpha = metadata.number("adapter.lora.alpha")
    guard alpha?.isFinite ?? true else {
      throw SurgeryError.adapter(
        "bad-alpha", "alpha is not a finite number", file: files.path,
        key: "adapter.lora.alpha", found: "\(alpha ?? 0)")
    }
    let moduleOptions = try ModuleOptions(options)
    var adapter = Adapter(
      path: files.path, modules: [], provenance: .init(dialect: .gguf, reason: reason))
    adapter.provenance.metadata = files.metadata
    adapter.provenance.baseName =
      metadata.string("general.base_model.0.repo_url")
      ?? metadata.string("general.base_model.0.name")
    adapter.provenance.warnings = files.file.warnings
    for pair in try pairs(files) {
      adapter.modules.append(try module(pair, names, alpha, moduleOptions, file: files.path))
    }
    return adapter
  }

  private static func check(_ metadata: GGUFMetadata, file: String) throws(SurgeryError) {
    if let type = metadata.string("adapter.type"), type != "lora" {
      throw SurgeryError.unsupportedAdapter(
        "a GGUF adapter of another type than lora", file: file, key: "adapter.type", found: type)
    }
    if metadata["adapter.alora.invocation_tokens"] != nil {
      throw SurgeryError.unsupportedAdapter(
        "an activated LoRA works on some tokens only, so that it is no change of weights",
        id: "not-mergeable", file: file, key: "adapter.alora.invocation_tokens")
    }
  }

  /// The two factors of one tensor.
  private struct Pair {
    var name: String
    var a: StoredTensor?
    var b: StoredTensor?
  }

  private static func pairs(_ files: AdapterFiles) throws(SurgeryError) -> [Pair] {
    var pairs: [Pair] = []
    var positions: [String: Int] = [:]
    for tensor in files.tensors {
      let (name, part) = ModuleUpdate.split(tensor.name.text)
      guard part == "lora_a" || part == "lora_b", name.hasSuffix(".weight") else {
        if tensor.name.text.contains("_norm.") { continue }
        throw SurgeryError.adapter(
          "unknown-key", "the tensor's name is of no kind that this dialect has",
          file: files.path, key: tensor.name.text,
          expected: "NAME.weight.lora_a or NAME.weight.lora_b")
      }
      let module = String(name.dropLast(".weight".count))
      let position = positions[module] ?? pairs.count
      if position == pairs.count {
        positions[module] = position
        pairs.append(Pair(name: module))
      }
      if part == "lora_a" { pairs[position].a = tensor } else { pairs[position].b = tensor }
    }
    return pairs
  }

  private static func module(
    _ pair: Pair, _ names: GGUFNames, _ alpha: Double?, _ options: ModuleOptions, file: String
  ) throws(SurgeryError) -> ModuleUpdate {
    let key = "\(pair.name).weight"
    guard let a = pair.a, let b = pair.b else {
      throw SurgeryError.adapter(
        "incomplete", "a factor is missing", file: file, key: key,
        expected: "\(key).lora_a and \(key).lora_b")
    }
    guard a.info.shape.rank == 2, b.info.shape.rank == 2 else {
      throw SurgeryError.unsupportedAdapter(
        "factors of a stack of experts", file: file, key: a.name.text, found: "\(a.info.shape)")
    }
    let isEmbedding = pair.name == "token_embd"
    // The embedding's `a` is stored transposed: one row for each token.
    let update =
      isEmbedding
      ? try LowRank(up: Factor(a), down: Factor(b).transposed(), form: .embedding)
      : try LowRank(up: Factor(b), down: Factor(a))
    let rank = max(1, update.up.columns)
    let (scale, used) = options.scale(
      pair.name, rank: rank, alpha: alpha.flatMap { $0 == 0 ? nil : $0 } ?? Double(rank))
    let target = names.module(of: pair.name) ?? pair.name
    var module = ModuleUpdate(
      name: pair.name, target: TargetReference(module: target), update: update, scale: scale,
      alpha: used)
    if let order = names.permutation(of: pair.name) {
      module.update = HeadPermuted(update, isKey: order == .keys)
    }
    return module
  }
}
