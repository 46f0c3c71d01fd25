import Checkpoints
import Tensors

/// The names of a base's tensors, arranged so that an adapter's names can be found among them.
///
/// Maps are built forward from the base's names; nothing is inferred by turning underscores back into dots.
struct BaseNames: Sendable {
  private let base: Checkpoint
  private let tiesEmbeddings: Bool

  init(_ base: Checkpoint, tiesEmbeddings: Bool) {
    self.base = base
    self.tiesEmbeddings = tiesEmbeddings
  }

  /// A place in the base that a reference leads to.
  struct Place {
    var name: TensorName
    /// What had to be changed in the adapter's name to find it, for the report.
    var note: String?
    /// Whether the name found is the tied partner of the name asked for.
    var isTied = false
  }

  /// Finds the tensor that a reference names.
  ///
  /// - Returns: The place, or `nil` where there is none.
  /// - Throws: `adapter.ambiguous-target`.
  func place(of reference: TargetReference) throws(SurgeryError) -> Place? {
    dotted(reference)
  }

  private func dotted(_ reference: TargetReference) -> Place? {
    if let name = existing(reference) { return Place(name: name) }
    var trimmed = reference
    trimmed.module = reference.module.split(separator: ".", omittingEmptySubsequences: false)
      .filter { $0 != "base_layer" }.joined(separator: ".")
    if trimmed.module != reference.module, let name = existing(trimmed) {
      return Place(name: name)
    }
    while trimmed.module.hasPrefix("base_model.model.") {
      trimmed.module.removeFirst("base_model.model.".count)
      if let name = existing(trimmed) {
        return Place(name: name, note: "repeated prefix 'base_model.model.' removed")
      }
    }
    if let tied = tied(trimmed) { return tied }
    return wrapped(trimmed)
  }

  /// Prefixes that model classes put before their backbone, and that checkpoints have or lack.
  private static let wrappers = [
    "transformer.", "model.", "bert.", "roberta.", "distilbert.", "gpt_neox.", "deberta.",
    "electra.",
    "model.language_model.", "language_model.model.", "language_model.", "module.", "vit.",
    "base_model.", "encoder.", "backbone.",
  ]

  /// Tries the name with a wrapper's prefix removed or added.
  private func wrapped(_ reference: TargetReference) -> Place? {
    for prefix in Self.wrappers where reference.module.hasPrefix(prefix) {
      let inner = String(reference.module.dropFirst(prefix.count))
      for other in [""] + Self.wrappers where other != prefix {
        var candidate = reference
        candidate.module = other + inner
        if let name = existing(candidate) {
          return Place(
            name: name,
            note: other.isEmpty
              ? "prefix '\(prefix)' removed" : "prefix '\(prefix)' taken for '\(other)'")
        }
      }
    }
    for prefix in Self.wrappers {
      var candidate = reference
      candidate.module = prefix + reference.module
      if let name = existing(candidate) {
        return Place(name: name, note: "prefix '\(prefix)' added")
      }
    }
    return nil
  }

  /// The weight of a module, or the fused weight of an attention that has no other (`nn.MultiheadAttention`).
  private func existing(_ reference: TargetReference) -> TensorName? {
    let name = TensorName(reference.tensorName)
    if base.position(of: name) != nil { return name }
    if reference.parameter == "weight" || reference.parameter == "bias" {
      let fused = TensorName("\(reference.module).in_proj_\(reference.parameter)")
      if base.position(of: fused) != nil { return fused }
    }
    return nil
  }

  /// Names under which models know their input embedding and their output head.
  private static let heads = ["lm_head", "embed_out", "output"]
  private static let embeddings = [
    "model.embed_tokens", "transformer.wte", "wte", "shared", "model.decoder.embed_tokens",
    "gpt_neox.embed_in", "model.language_model.embed_tokens", "language_model.model.embed_tokens",
    "transformer.word_embeddings", "embed_tokens",
  ]

  /// The shared tensor of a head that the checkpoint does not store.
  private func tied(_ reference: TargetReference) -> Place? {
    guard tiesEmbeddings, reference.parameter == "weight" else { return nil }
    let last = reference.module.split(separator: ".").last.map(String.init) ?? ""
    let partners = Self.heads.contains(last) ? Self.embeddings : []
    for module in partners {
      let name = TensorName("\(module).weight")
      if base.position(of: name) != nil {
        return Place(
          name: name, note: "'\(reference.module)' is tied to '\(module)'", isTied: true)
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
