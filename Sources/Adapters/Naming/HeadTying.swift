import Checkpoints
import Tensors

/// Whether the output head and the embedding of a base, which share a tensor, still do so in the result.
struct HeadTying {
  private let adapter: Adapter
  private let base: Checkpoint
  private let architecture: Architecture
  /// Whether the user wants them to part.
  let isToPart: Bool

  init(adapter: Adapter, base: Checkpoint, architecture: Architecture, isToPart: Bool) {
    (self.adapter, self.base, self.architecture) = (adapter, base, architecture)
    self.isToPart = isToPart
  }

  /// Whether the adapter was trained so that both change alike.
  var isEnsured: Bool { adapter.provenance.config?["ensure_weight_tying"]?.flag == true }

  /// The head as it was, where only the embedding was changed and the two are to part.
  func partedHead(_ tensors: [TensorName: TensorUpdates]) -> TensorUpdates? {
    guard architecture.tiesEmbeddings else { return nil }
    let head = TensorName("lm_head.weight")
    guard base.position(of: head) == nil,
      let embedding = base.tensors.first(where: {
        BaseNames.isEmbedding($0.name) && tensors[$0.name] != nil
      }),
      isToPart
        || tensors[embedding.name]?.replacement == Replacement.savedModule && !isEnsured
          && architecture.hasHead
    else { return nil }
    return TensorUpdates(name: head, source: embedding.renamed(head))
  }

  /// Fails where the vocabulary grows in the embedding alone: a head with fewer words would not load.
  ///
  /// - Throws: `adapter.vocab`.
  func checkVocabulary(in tensors: [TensorName: TensorUpdates]) throws(SurgeryError) {
    for embedding in base.tensors where BaseNames.isEmbedding(embedding.name) {
      let old = embedding.info.shape
      guard let new = tensors[embedding.name]?.source.info.shape, new.rows > old.rows,
        let head = base.tensors.first(where: {
          isHead($0) && $0.info.shape == old && tensors[$0.name]?.replacement == nil
        })
      else { continue }
      throw SurgeryError.adapter(
        "vocab", "the adapter enlarges the embedding but not the output head", file: adapter.path,
        key: embedding.name.text,
        expected: "\(head.name.text) with \(new.rows, counting: "row")",
        found: "\(head.info.shape) in the base, nothing in the adapter",
        hint: "save the adapter with the head in modules_to_save, or resize the base's vocabulary")
    }
  }

  /// What becomes of the head without the user's asking for it.
  func warnings(
    changing tensors: [TensorName: TensorUpdates], adding additions: [TensorUpdates]
  ) -> [String] {
    guard !isToPart else { return [] }
    if let head = additions.first {
      return ["embedding and output head part, as in PEFT's merge: \(head.name.text) is added"]
    }
    guard architecture.tiesEmbeddings, !base.tensors.contains(where: isHead),
      tensors.values.contains(where: { $0.replacement != nil && BaseNames.isEmbedding($0.name) })
    else { return [] }
    return ["the embedding is replaced and shared with the output head, which changes with it"]
  }

  private func isHead(_ tensor: StoredTensor) -> Bool {
    BaseNames.isHead(ModuleUpdate.split(tensor.name.text).module)
  }
}
