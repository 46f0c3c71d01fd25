import Checkpoints
import Tensors

/// Collects, tensor by tensor, what an adapter does to a base.
struct Resolver {
  private let adapter: Adapter
  private let base: Checkpoint
  private let options: ModuleOptions
  private let allowsUnmatched: Bool
  private let architecture: Architecture
  private let names: BaseNames
  private let fitting: ModuleFitting
  private var tensors: [TensorName: TensorUpdates] = [:]
  private var tiedReplacements = Set<TensorName>()
  /// Tensors that the result has and the base has not: heads that no longer share their embedding.
  private var additions: [TensorName: TensorUpdates] = [:]
  private let tying: HeadTying
  /// The model that the adapter was trained on, where its initialisation changed the base, and what changed it.
  private let residual: (model: Checkpoint, reason: String)?
  private var missing: [(name: String, key: String)] = []
  private var notes: [String: Int] = [:]

  init(
    adapter: Adapter, base: Checkpoint, options: AdapterOptions
  ) throws(SurgeryError) {
    self.adapter = adapter
    self.base = base
    self.options = try ModuleOptions(options)
    allowsUnmatched = options.allowsUnmatched
    if let change = adapter.provenance.baseChange, let path = options.residualBase {
      residual = (try Checkpoint(opening: path), "the residual base of \(change)")
    } else {
      residual = nil
    }
    architecture = Architecture(of: base)
    tying = HeadTying(
      adapter: adapter, base: base, architecture: architecture,
      isToPart: options.untiesEmbeddings)
    names = BaseNames(base, tiesEmbeddings: architecture.tiesEmbeddings)
    fitting = ModuleFitting(
      base: base, options: self.options, architecture: architecture,
      configuredTransposed: adapter.fanInFanOut)
  }

  /// Whether a module's tensor is only there as the tied partner of another.
  func isTied(_ module: ModuleUpdate) -> Bool {
    names.candidates(for: options.renamed(module.target)).first?.isTied == true
  }

  /// Whether a tied module repeats a change that its partner has already: `ensure_weight_tying` stores both
  /// (peft:src/peft/tuners/lora/model.py).
  func repeatsPartner(_ module: ModuleUpdate) -> Bool {
    guard tying.isEnsured,
      let entry = names.candidates(for: options.renamed(module.target)).first?.entries.first
    else { return false }
    return tensors[entry.tensor]?.updates.isEmpty == false
  }

  mutating func add(_ replacement: Replacement) throws(SurgeryError) {
    let key = replacement.tensor.name.text
    let new = replacement.tensor.info.shape
    let candidates = names.candidates(for: options.renamed(replacement.target))
    let places = candidates.compactMap { candidate in
      candidate.entries.count == 1 && candidate.entries[0].part == nil
        ? base[candidate.entries[0].tensor] : nil
    }
    guard let first = places.first else {
      missing.append((replacement.target.tensorName, key))
      return
    }
    if let note = candidates.first?.note { notes[note, default: 0] += 1 }
    let fitting = places.filter {
      $0.info.shape.dimensions.dropFirst() == new.dimensions.dropFirst()
    }
    guard let stored = fitting.first(where: { $0.info.shape == new }) ?? fitting.first else {
      throw SurgeryError.adapter(
        "shape", "a tensor that the adapter stores in full does not fit the base",
        file: adapter.path, key: key, expected: "\(first.info.shape) of base tensor \(first.name)",
        found: "\(new)", hint: "use the base that the adapter was trained on")
    }
    var updates = tensors[stored.name] ?? TensorUpdates(name: stored.name, source: stored)
    // A tied head is stored beside its embedding and is the same tensor, unless the two were saved as modules of their own:
    // then merging parts them (peft:src/peft/utils/other.py, `ModulesToSaveWrapper`).
    let isTied = candidates.first?.isTied == true
    if isTied, replacement.reason == Replacement.savedModule, !tying.isEnsured {
      let name = TensorName(replacement.target.tensorName)
      var head = TensorUpdates(name: name, source: replacement.tensor.renamed(name))
      head.replacement = replacement.reason
      additions[name] = head
      return
    }
    if isTied, updates.replacement != nil { return }
    if updates.replacement != nil, tiedReplacements.remove(stored.name) == nil {
      throw SurgeryError.adapter(
        "conflict", "two tensors of the adapter replace the same tensor of the base",
        file: adapter.path, key: key, found: stored.name.text)
    }
    if stored.info.shape != new {
      notes["\(stored.name.text) grows from \(stored.info.shape) to \(new)", default: 0] += 1
    }
    if isTied { tiedReplacements.insert(stored.name) }
    updates.source = replacement.tensor.renamed(stored.name)
    updates.replacement = replacement.reason
    tensors[stored.name] = updates
  }

  /// Notes something for the report.
  mutating func note(_ text: String, tensors: Int) { notes[text, default: 0] += tensors }

  /// The products of a pair that fit the tensor that its module names.
  func solutions(of pair: UnsolvedPair, _ module: ModuleUpdate) -> Set<UnsolvedPair.Convention> {
    guard let entry = names.candidates(for: options.renamed(module.target)).first?.entries.first,
      let shape = base[entry.tensor]?.info.shape, shape.rank == 2
    else { return [] }
    let said = options.isTransposed(module.name) ?? architecture.isTransposed(entry.tensor) ?? false
    return Set(
      pair.solutions(
        rows: said ? shape.columns : shape.rows, columns: said ? shape.rows : shape.columns))
  }

  mutating func add(_ module: ModuleUpdate) throws(SurgeryError) {
    let key = module.update.factors.first?.tensor.name.text ?? module.name
    do throws(SurgeryError) {
      try resolve(module, key: key)
    } catch {
      var error = error.inFile(adapter.path)
      error.tensor = error.tensor ?? key
      throw error
    }
  }

  private mutating func resolve(_ module: ModuleUpdate, key: String) throws(SurgeryError) {
    var fits: [(fits: [ModuleFitting.Fit], note: String?, isTied: Bool)] = []
    var failure: SurgeryError?
    var isKnown = false
    for parameter in [module.target.parameter] + module.target.alternatives where fits.isEmpty {
      var target = options.renamed(module.target)
      target.parameter = parameter
      for candidate in names.candidates(for: target) {
        isKnown = true
        do throws(SurgeryError) {
          let made = try fitting.fits(of: module, candidate) { (name) throws(SurgeryError) in
            try source(of: name, for: module)
          }
          fits.append((made, candidate.note, candidate.isTied))
        } catch {
          failure = failure ?? error
        }
      }
    }
    guard isKnown else {
      if module.isOptional { return }
      if !allowsUnmatched, let codes = names.codes(for: options.renamed(module.target)) {
        throw QuantisedBase.error(
          found: "\(codes.text) in place of \(module.target.tensorName)")
      }
      missing.append((module.target.tensorName, key))
      return
    }
    if fits.isEmpty, let failure { throw failure }
    if fits.count > 1 {
      throw SurgeryError.adapter(
        "ambiguous-target", "several tensors of the base have the module's name and shape",
        expected: "one tensor for \(module.name)",
        found: fits.flatMap { $0.fits.map(\.tensor.text) }.listed(),
        hint: "--map renames the module to the one that is meant")
    }
    let chosen = fits.first
    for fit in chosen?.fits ?? [] { try commit(fit, module, isTied: chosen?.isTied ?? false) }
    if let note = fits.first?.note { notes[note, default: 0] += 1 }
  }

  /// The tensor that a module changes: the base's, the one that replaces it, or either enlarged.
  private func source(
    of name: TensorName, for module: ModuleUpdate
  ) throws(SurgeryError) -> StoredTensor? {
    guard let stored = tensors[name]?.source ?? base[name] else { return nil }
    guard let shape = module.enlargedShape, shape != stored.info.shape.dimensions else {
      return stored
    }
    guard let enlarged = stored.padded(to: shape) else {
      throw SurgeryError.adapter(
        "shape", "the adapter enlarges a tensor to a shape that it does not fit (reshape_weight)",
        expected: "at least \(stored.info.shape) of base tensor \(name.text)", found: "\(shape)")
    }
    return enlarged
  }

  private mutating func commit(
    _ fit: ModuleFitting.Fit, _ module: ModuleUpdate, isTied: Bool
  ) throws(SurgeryError) {
    guard let stored = try source(of: fit.tensor, for: module) else { return }
    // A head that is not to share its embedding's tensor gets a copy of it to change.
    let isAdded = isTied && tying.isToPart
    let name = isAdded ? TensorName(module.target.tensorName) : fit.tensor
    var updates =
      (isAdded ? additions[name] : tensors[name])
      ?? TensorUpdates(name: name, source: stored.renamed(name))
    if module.enlargedShape != nil {
      updates.source = stored.renamed(name)
      updates.replacement = updates.replacement ?? "enlarged by reshape_weight"
    }
    try takeResidual(&updates)
    let scale = try module.knownScale(of: adapter)
    if !updates.updates.isEmpty, updates.isTransposed != fit.fitted.isTransposed {
      throw SurgeryError.adapter(
        "ambiguous-orientation", "two modules disagree on how the base tensor is stored",
        found: fit.tensor.text, hint: "--fan-in-fan-out says how the target is stored")
    }
    updates.isTransposed = fit.fitted.isTransposed
    updates.stackedRows = fit.fitted.storedRows
    updates.updates.append(
      ResolvedUpdate(
        module: module.name, update: fit.fitted.update,
        scale: scale * fit.fitted.scaleFactor * Double(module.repetitions), rows: fit.rows))
    if isAdded { additions[name] = updates } else { tensors[name] = updates }
  }

  /// Takes the tensor that the adapter was trained on in place of the base's.
  private func takeResidual(_ updates: inout TensorUpdates) throws(SurgeryError) {
    guard let (model, reason) = residual, updates.replacement == nil else { return }
    guard let stored = model[updates.name], stored.info.shape == updates.source.info.shape,
      stored.info.dtype.isFloatingPoint
    else {
      throw SurgeryError.adapter(
        "modified-base", "the residual base has no such tensor", file: model.path,
        key: updates.name.text, expected: "\(updates.source.info.shape) as in the base",
        found: model[updates.name].map { "\($0.info.dtype) \($0.info.shape)" } ?? "none")
    }
    updates.source = stored
    updates.replacement = reason
  }

  func finished() throws(SurgeryError) -> ResolvedAdapter {
    try tying.checkVocabulary(in: tensors)
    if let first = missing.first, !allowsUnmatched {
      throw SurgeryError.adapter(
        "unknown-target",
        "the base has no tensor for \(missing.count) of the adapter's modules: "
          + missing.map(\.name).listed(limit: 4),
        file: adapter.path, key: first.key, expected: "\(first.name) in \(base.path)",
        found: names.nearest(to: first.name).listed(),
        hint: "use the base that the adapter was trained on, --map renames modules, "
          + "--allow-unmatched leaves them out")
    }
    var warnings = adapter.provenance.warnings
    warnings += try adapter.provenance.warnings(ofBase: base)
    warnings += missing.map { "\($0.key): no tensor \($0.name) in the base; left out" }
    warnings += notes.sorted { $0.key < $1.key }.map {
      "\($0.key) (\($0.value, counting: "tensor"))"
    }
    var resolved = ResolvedAdapter(
      adapter: adapter, tensors: base.tensors.compactMap { tensors[$0.name] },
      unmatched: missing.map(\.key), warnings: warnings)
    resolved.additions = additions.values.sorted { $0.name < $1.name }
    if additions.isEmpty, let head = tying.partedHead(tensors) { resolved.additions.append(head) }
    resolved.warnings += tying.warnings(changing: tensors, adding: resolved.additions)
    return resolved
  }
}
