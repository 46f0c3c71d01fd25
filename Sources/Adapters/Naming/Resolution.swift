public import Checkpoints
public import Tensors

/// One update as it applies to one tensor of the base.
public struct ResolvedUpdate: Sendable {
  /// The module's name in the adapter.
  public var module: String
  /// The change, in `out x in` orientation.
  public var update: any Update
  /// The final scale.
  public var scale: Double
  /// The rows of the tensor's `out x in` matrix that it changes.
  public var rows: Range<Int>
}

/// All that one adapter does to one tensor of the base.
public struct TensorUpdates: Sendable {
  /// The tensor's name in the base.
  public let name: TensorName
  /// The tensor to start from: the base's, or the one that the adapter stores in full.
  public internal(set) var source: StoredTensor
  /// Why the tensor is replaced, where it is.
  public internal(set) var replacement: String?
  /// Whether the tensor is stored `in x out`.
  public internal(set) var isTransposed = false
  /// The changes, in order.
  public internal(set) var updates: [ResolvedUpdate] = []

  /// Rows of the stored matrix, where they are not the first dimension.
  var stackedRows: Int?

  /// Rows of the stored matrix: the unit of blocks.
  public var storedRows: Int { stackedRows ?? source.info.shape.rows }
  /// Columns of the stored matrix.
  public var storedColumns: Int { source.info.shape.elementCount / max(storedRows, 1) }

  /// How much of the stored matrix must be at hand at once.
  public var need: BlockNeed {
    let need = updates.reduce(BlockNeed.any) { $0.joined(with: $1.update.need) }
    return isTransposed ? need.transposed : need
  }

  /// Whether blocks of whole stored rows suffice; otherwise the tensor is taken whole.
  public var worksByRows: Bool { need <= .wholeRows }

  /// Whether all changes are sums that do not depend on the tensor.
  public var isAdditive: Bool { updates.allSatisfy(\.update.isAdditive) }

  /// Why the changes cannot be taken out of a merged tensor; `nil` where they can.
  public var obstacleToUnmerging: String? {
    if let replacement { return "the tensor was replaced (\(replacement))" }
    for update in updates {
      if case .impossible(let reason) = update.update.inversion { return reason }
    }
    return nil
  }
}

/// An adapter whose every module has found its tensor.
public struct ResolvedAdapter: Sendable {
  /// The adapter.
  public let adapter: Adapter
  /// What happens to each tensor that the adapter touches, in the order of the base.
  public internal(set) var tensors: [TensorUpdates]
  /// Tensors that the result has and the base has not: output heads that part from the embedding they shared; the
  /// configuration's `tie_word_embeddings` is then to be false.
  public internal(set) var additions: [TensorUpdates] = []
  /// Modules and tensors of the adapter that match nothing.
  public internal(set) var unmatched: [String] = []
  /// What the user should know.
  public internal(set) var warnings: [String] = []

  /// The files that it is read from: the adapter's, and those of tensors that take the place of the base's.
  public var inputs: [InputFile] {
    var seen = Set<ObjectIdentifier>()
    let replaced = (tensors + additions).filter { $0.replacement != nil }.map(\.source.source.file)
    return (adapter.inputs + replaced).filter { seen.insert(ObjectIdentifier($0)).inserted }
  }

  private let positions: [TensorName: Int]

  init(
    adapter: Adapter, tensors: [TensorUpdates], unmatched: [String], warnings: [String]
  ) {
    self.adapter = adapter
    self.tensors = tensors
    self.unmatched = unmatched
    self.warnings = warnings
    positions = Dictionary(
      uniqueKeysWithValues: tensors.enumerated().map { ($0.element.name, $0.offset) })
  }

  /// What happens to a tensor of the base; `nil` where nothing does.
  public subscript(name: TensorName) -> TensorUpdates? { positions[name].map { tensors[$0] } }

  private func inBaseWords(_ update: ResolvedUpdate, of tensor: TensorUpdates) -> ModuleUpdate {
    let outputs = tensor.isTransposed ? tensor.storedColumns : tensor.storedRows
    var change = update.update
    if update.rows != 0..<outputs, let pair = change as? LowRank {
      change = PartedLowRank(parts: [(update.rows, pair)], rows: outputs)
    }
    var module = ModuleUpdate(changing: tensor.name, by: change, scale: update.scale)
    // A head that shares its embedding's tensor is still a layer of its own to those who read the adapter.
    if BaseNames.isEmbedding(tensor.name), BaseNames.isHead(update.module) {
      module.name = update.module
      module.target = TargetReference(module: update.module)
    }
    return module
  }

  /// The adapter with every module named as the base names it, for writing in another dialect.
  public var inBaseWords: Adapter {
    var result = adapter
    result.modules = tensors.flatMap { tensor in
      tensor.updates.map { inBaseWords($0, of: tensor) }
    }
    result.replacements = tensors.compactMap { tensor in
      tensor.replacement.map { Replacement(of: tensor.name, with: tensor.source, reason: $0) }
    }
    return result
  }
}

extension ResolvedAdapter {
  /// The adapter with every pair that only the base orients as the base has it, and all else as it was read.
  public var withPairsSolved: Adapter {
    var result = adapter
    let unsolved = Set(adapter.modules.filter { $0.update is UnsolvedPair }.map(\.name))
    guard !unsolved.isEmpty else { return result }
    var solved: [String: [ModuleUpdate]] = [:]
    for tensor in tensors + additions {
      for update in tensor.updates where unsolved.contains(update.module) {
        solved[update.module, default: []].append(inBaseWords(update, of: tensor))
        if tensor.isTransposed { result.fanInFanOut = true }
      }
    }
    result.modules = adapter.modules.flatMap { module in
      module.update is UnsolvedPair ? solved.removeValue(forKey: module.name) ?? [] : [module]
    }
    return result
  }
}

extension Adapter {
  /// Finds the tensor of a base for every module.
  ///
  /// - Parameters:
  ///   - base: The model that the adapter is applied to.
  ///   - options: What the user says.
  /// - Returns: The changes, tensor by tensor.
  /// - Throws: `adapter.empty`, `adapter.wrong-base`, `adapter.unknown-target` with the nearest names, `adapter.shape`, `adapter.no-scale`,
  ///   `adapter.quantised-base` and the other errors of the vocabulary.
  /// - Complexity: Proportional to the number of tensors; no data is read.
  public func resolved(
    against base: Checkpoint, options: AdapterOptions = AdapterOptions()
  ) throws(SurgeryError) -> ResolvedAdapter {
    guard !modules.isEmpty || !replacements.isEmpty else {
      throw SurgeryError.adapter(
        "empty", "the adapter changes nothing", file: path, expected: "factors of modules",
        found: "none", hint: "save it again from the trained model")
    }
    if !options.allowsOtherBase { try provenance.base?.check(base, adapter: path) }
    var resolver = try Resolver(adapter: self, base: base, options: options)
    for replacement in replacements { try resolver.add(replacement) }
    let settled = resolver.settle(modules)
    for module in settled where !resolver.isTied(module) { try resolver.add(module) }
    for module in settled where resolver.isTied(module) && !resolver.repeatsPartner(module) {
      try resolver.add(module)
    }
    return try resolver.finished()
  }
}
