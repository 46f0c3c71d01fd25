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
  private var tensors: [TensorName: TensorUpdates] = [:]
  private var orientations: [TensorName: Bool] = [:]
  private var missing: [(name: String, key: String)] = []
  private var notes: [String: Int] = [:]

  init(
    adapter: Adapter, base: Checkpoint, options: AdapterOptions
  ) throws(SurgeryError) {
    self.adapter = adapter
    self.base = base
    self.options = try ModuleOptions(options)
    allowsUnmatched = options.allowsUnmatched
    architecture = Architecture(of: base)
    names = BaseNames(base, tiesEmbeddings: architecture.tiesEmbeddings)
  }

  mutating func add(_ replacement: Replacement) throws(SurgeryError) {
    let key = replacement.tensor.name.text
    guard let place = try find(replacement.target, key: key),
      let stored = base[place.name]
    else { return }
    var updates = tensors[place.name] ?? TensorUpdates(name: place.name, source: stored)
    if updates.replacement != nil {
      if place.isTied { return }
      throw SurgeryError.adapter(
        "conflict", "two tensors of the adapter replace the same tensor of the base",
        file: adapter.path, key: key, found: place.name.text)
    }
    let (old, new) = (stored.info.shape, replacement.tensor.info.shape)
    guard old.dimensions.dropFirst() == new.dimensions.dropFirst() else {
      throw SurgeryError.adapter(
        "shape", "a tensor that the adapter stores in full does not fit the base",
        file: adapter.path, key: key, expected: "\(old) of base tensor \(place.name.text)",
        found: "\(new)", hint: "use the base that the adapter was trained on")
    }
    if old != new {
      notes["\(place.name.text) grows from \(old) to \(new)", default: 0] += 1
    }
    updates.source = replacement.tensor.renamed(place.name)
    updates.replacement = replacement.reason
    tensors[place.name] = updates
  }

  mutating func add(_ module: ModuleUpdate) throws(SurgeryError) {
    let key = module.update.factors.first?.tensor.name.text ?? module.name
    if module.isOptional, try names.place(of: options.renamed(module.target)) == nil { return }
    var parameters = [module.target.parameter] + module.target.alternatives
    while !parameters.isEmpty {
      var target = module.target
      target.parameter = parameters.removeFirst()
      guard let place = try find(target, key: key), let stored = base[place.name] else { return }
      do throws(SurgeryError) {
        return try add(module, at: place, stored)
      } catch {
        if error.id == "adapter.shape", !parameters.isEmpty { continue }
        var error = error.inFile(adapter.path)
        error.tensor = error.tensor ?? key
        throw error
      }
    }
  }

  private mutating func add(
    _ module: ModuleUpdate, at place: BaseNames.Place, _ stored: StoredTensor
  ) throws(SurgeryError) {
    var updates = tensors[place.name] ?? TensorUpdates(name: place.name, source: stored)
    guard updates.source.info.dtype.isFloatingPoint else {
      throw SurgeryError.adapter(
        "quantised-base", "the base tensor is quantised or of integers",
        expected: "a floating-point type", found: "\(stored.info.dtype) of \(place.name.text)",
        hint: "dequantise the base first")
    }
    guard let scale = module.scale else {
      throw SurgeryError.adapter(
        "no-scale", "the adapter's files do not say how it is scaled",
        expected: "alpha of module \(module.name)",
        found: "none (\(adapter.provenance.reason))",
        hint: "--alpha gives it, or --scale the final factor")
    }
    let fitted = try module.update.fitted(
      to: FittingTarget(
        name: place.name, shape: updates.source.info.shape, part: nil,
        saidTransposed: options.isTransposed(module.name),
        knownTransposed: architecture.isTransposed(place.name),
        configuredTransposed: adapter.fanInFanOut,
        enabledParts: options.enabledParts(module.name)))
    if let other = orientations[place.name], other != fitted.isTransposed {
      throw SurgeryError.adapter(
        "ambiguous-orientation", "two modules disagree on how the base tensor is stored",
        found: place.name.text, hint: "--fan-in-fan-out says how the target is stored")
    }
    orientations[place.name] = fitted.isTransposed
    updates.isTransposed = fitted.isTransposed
    updates.stackedRows = fitted.storedRows
    updates.updates.append(
      ResolvedUpdate(
        module: module.name, update: fitted.update, scale: scale, rows: 0..<fitted.update.rows))
    tensors[place.name] = updates
  }

  private mutating func find(
    _ reference: TargetReference, key: String
  ) throws(SurgeryError) -> BaseNames.Place? {
    let place: BaseNames.Place?
    do throws(SurgeryError) {
      place = try names.place(of: options.renamed(reference))
    } catch {
      throw error.inFile(adapter.path).inTensor(TensorName(key))
    }
    guard let place else {
      missing.append((reference.tensorName, key))
      return nil
    }
    if let note = place.note { notes[note, default: 0] += 1 }
    return place
  }

  func finished() throws(SurgeryError) -> ResolvedAdapter {
    if let first = missing.first, !allowsUnmatched {
      throw SurgeryError.adapter(
        "unknown-target", "the base has no tensor for \(missing.count) of the adapter's modules",
        file: adapter.path, key: first.key,
        expected: "\(first.name) in \(base.path), which has "
          + names.nearest(to: first.name).listed(),
        found: missing.map(\.name).listed(),
        hint: "use the base that the adapter was trained on, --map renames modules, "
          + "--allow-unmatched leaves them out")
    }
    var warnings = adapter.provenance.warnings
    warnings += missing.map { "\($0.key): no tensor \($0.name) in the base; left out" }
    warnings += notes.sorted { $0.key < $1.key }.map { "\($0.key) (\($0.value) tensors)" }
    return ResolvedAdapter(
      adapter: adapter, tensors: base.tensors.compactMap { tensors[$0.name] },
      unmatched: missing.map(\.key), warnings: warnings)
  }
}
