import Checkpoints
import Tensors

/// Reads llama.cpp's adapters: `NAME.weight.lora_a` and `.lora_b`, one alpha in the metadata
/// (llama.cpp:src/llama-adapter.cpp; dialects.md, section 11).
enum GGUFAdapterReader: DialectReader {
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
    let update: any Update
    if a.info.shape.rank == 3, b.info.shape.rank == 3 {
      update = try stack(a, b, file: file)
    } else {
      update = try matrix(pair.name, a, b, order: names.permutation(of: pair.name), file: file)
    }
    let rank = max(1, b.info.shape.dimensions.last ?? 1)
    let (scale, used) = options.scale(
      pair.name, rank: rank, alpha: alpha.flatMap { $0 == 0 ? nil : $0 } ?? Double(rank))
    let target = names.module(of: pair.name) ?? pair.name
    return ModuleUpdate(
      name: pair.name, target: TargetReference(module: target), update: update, scale: scale,
      alpha: used)
  }

  private static func matrix(
    _ name: String, _ a: StoredTensor, _ b: StoredTensor, order: GGUFNames.PermutedRows?,
    file: String
  ) throws(SurgeryError) -> any Update {
    guard a.info.shape.rank == 2, b.info.shape.rank == 2 else {
      throw SurgeryError.adapter(
        "shape", "factors are matrices, or stacks of them for experts", file: file,
        key: a.name.text, expected: "2 or 3 dimensions of both",
        found: "\(a.info.shape) and \(b.info.shape)")
    }
    // The embedding's `a` is stored transposed: one row for each token.
    if name == "token_embd" {
      return try LowRank(up: Factor(a), down: Factor(b).transposed(), form: .embedding)
    }
    let pair = try LowRank(up: Factor(b), down: Factor(a))
    if let order { return HeadPermuted(pair, isKey: order == .keys) }
    return pair
  }

  /// Experts in one tensor: `lora_a` is `experts x rank x in`, `lora_b` is `experts x out x rank`.
  private static func stack(
    _ a: StoredTensor, _ b: StoredTensor, file: String
  ) throws(SurgeryError) -> any Update {
    let (down, up) = (a.info.shape.dimensions, b.info.shape.dimensions)
    guard down[0] == up[0], down[1] == up[2] else {
      throw SurgeryError.adapter(
        "shape", "the factors of the experts do not fit each other", file: file,
        key: a.name.text, expected: "\(up[0]) x \(up[2]) x in", found: "\(a.info.shape)")
    }
    return try StackedLowRank(
      up: Factor(b).reshaped(rows: up[0] * up[1], columns: up[2]),
      down: Factor(a).reshaped(rows: down[0] * down[1], columns: down[2]), rank: up[2],
      square: .straight, isExpertMajor: true)
  }
}
