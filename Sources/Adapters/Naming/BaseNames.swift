import Checkpoints
import Tensors

/// The names of a base's tensors, arranged so that an adapter's names can be found among them.
struct BaseNames: Sendable {
  private let base: Checkpoint
  private let tiesEmbeddings: Bool
  private let table: AliasTable

  init(_ base: Checkpoint, tiesEmbeddings: Bool) {
    self.base = base
    self.tiesEmbeddings = tiesEmbeddings
    table = AliasTable(base)
  }

  /// A tensor that a reference may lead to; several together where the base splits what the adapter fuses.
  struct Candidate: Sendable {
    var entries: [AliasTable.Entry]
    /// What had to be changed in the adapter's name to find it, for the report.
    var note: String?
    /// Whether the name found is the tied partner of the name asked for.
    var isTied = false
  }

  /// The tensors that a reference may name; more than one where names collide.
  func candidates(for reference: TargetReference) -> [Candidate] {
    let direct = found(reference)
    if !direct.isEmpty || reference.spelling == .underscored { return direct }
    var trimmed = reference
    trimmed.module = reference.module.split(separator: ".", omittingEmptySubsequences: false)
      .filter { $0 != "base_layer" }.joined(separator: ".")
    if trimmed.module != reference.module {
      let found = found(trimmed)
      if !found.isEmpty { return found }
    }
    while trimmed.module.hasPrefix("base_model.model.") {
      trimmed.module.removeFirst("base_model.model.".count)
      let found = found(trimmed, note: "repeated prefix 'base_model.model.' removed")
      if !found.isEmpty { return found }
    }
    if let tied = tied(trimmed) { return [tied] }
    return wrapped(trimmed)
  }

  /// The codes that a quantised base has in place of the tensor that a reference names; `nil` where it has none.
  func codes(for reference: TargetReference) -> TensorName? {
    QuantisedBase.codes(of: reference).lazy
      .compactMap { candidates(for: $0).first?.entries.first?.tensor }.first
  }

  private func found(_ reference: TargetReference, note: String? = nil) -> [Candidate] {
    let entries = table.candidates(for: reference)
    // The table knows names without the prefix of their component; some adapters have them whole.
    if entries.isEmpty, reference.spelling == .dotted, reference.component == nil {
      let whole = TensorName(reference.tensorName)
      if base.position(of: whole) != nil {
        return [Candidate(entries: [AliasTable.Entry(tensor: whole)], note: note)]
      }
    }
    return entries.map { Candidate(entries: $0, note: note) }
  }

  /// Prefixes that model classes put before their backbone, and that checkpoints have or lack.
  private static let wrappers = [
    "transformer.", "model.", "bert.", "roberta.", "distilbert.", "gpt_neox.", "deberta.",
    "electra.", "vit.", "model.language_model.", "language_model.model.", "language_model.",
    "module.", "base_model.", "encoder.", "backbone.",
  ]

  /// Tries the name with a wrapper's prefix removed, taken for another, or added.
  private func wrapped(_ reference: TargetReference) -> [Candidate] {
    func attempt(_ module: String, _ note: String) -> [Candidate] {
      var candidate = reference
      candidate.module = module
      return found(candidate, note: note)
    }
    for prefix in Self.wrappers where reference.module.hasPrefix(prefix) {
      let inner = String(reference.module.dropFirst(prefix.count))
      let bare = attempt(inner, "prefix '\(prefix)' removed")
      if !bare.isEmpty { return bare }
      for other in Self.wrappers where other != prefix {
        let found = attempt(other + inner, "prefix '\(prefix)' taken for '\(other)'")
        if !found.isEmpty { return found }
      }
    }
    for prefix in Self.wrappers {
      let found = attempt(prefix + reference.module, "prefix '\(prefix)' added")
      if !found.isEmpty { return found }
    }
    return []
  }

  /// Names under which models know their input embedding and their output head.
  private static let heads: Set<String> = ["lm_head", "embed_out", "output", "unembed_tokens"]
  private static let embeddings = [
    "model.embed_tokens", "transformer.wte", "wte", "shared", "model.decoder.embed_tokens",
    "gpt_neox.embed_in", "model.language_model.embed_tokens", "language_model.model.embed_tokens",
    "transformer.word_embeddings", "embed_tokens",
  ]

  /// Whether a module is an output head.
  static func isHead(_ module: String) -> Bool {
    heads.contains(module.split(separator: ".").last.map(String.init) ?? "")
  }

  /// Names of embeddings of all kinds, as the last component of a path.
  private static let embeddingModules: Set<String> = [
    "embed_tokens", "wte", "wpe", "shared", "embed_in", "tok_embeddings", "emb", "embed",
    "embedding", "embeddings", "word_embeddings", "position_embeddings", "token_type_embeddings",
    "token_embedding", "position_embedding", "embed_positions", "tokens_embed", "positions_embed",
  ]

  /// Whether a module's name is that of an embedding, whose layer keeps its factors otherwise than a linear one.
  static func isEmbeddingModule(_ module: String) -> Bool {
    embeddingModules.contains(module.split(separator: ".").last.map { $0.lowercased() } ?? "")
  }

  /// Whether a tensor is an input embedding that heads may share.
  static func isEmbedding(_ name: TensorName) -> Bool {
    embeddings.contains { name.text == "\($0).weight" }
  }

  /// The shared tensor of a head that the checkpoint does not store.
  private func tied(_ reference: TargetReference) -> Candidate? {
    guard tiesEmbeddings, reference.parameter == "weight" else { return nil }
    let last = reference.module.split(separator: ".").last.map(String.init) ?? ""
    guard Self.heads.contains(last) else { return nil }
    for module in Self.embeddings {
      let name = TensorName("\(module).weight")
      if base.position(of: name) != nil {
        return Candidate(
          entries: [AliasTable.Entry(tensor: name)],
          note: "'\(reference.module)' is tied to '\(module)', which changes with it", isTied: true)
      }
    }
    return nil
  }

  /// The base's names that look most like `module`, for "did you mean".
  func nearest(to module: String, limit: Int = 3) -> [String] {
    let wanted = Set(module.split { $0 == "." || $0 == "_" }.map(String.init))
    let scored = base.tensors.map { tensor in
      let words = tensor.name.text.split { $0 == "." || $0 == "_" || $0 == "/" }
      return (tensor.name.text, words.count { wanted.contains(String($0)) } * 2 - words.count)
    }
    let best = scored.max { $0.1 < $1.1 }?.1 ?? 0
    return scored.filter { $0.1 == best }.prefix(limit).map(\.0)
  }
}
