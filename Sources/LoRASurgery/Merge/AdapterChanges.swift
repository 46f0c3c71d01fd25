import Adapters
import Checkpoints
import Tensors

/// What one adapter does to one tensor, with the weight that the user gives it there.
struct WeightedUpdates: Sendable {
  var updates: TensorUpdates
  var weight: Double
  /// The position of the adapter among those of the request.
  var adapter: Int

  /// The changes as the steps of a merge take them.
  var planned: [PlannedUpdate] { updates.planned(weight: weight, adapter: adapter) }
}

/// What all adapters of a request do to a model.
struct AdapterChanges {
  private(set) var updates: [TensorName: [WeightedUpdates]] = [:]
  private(set) var additions: [WeightedUpdates] = []
  private(set) var reports: [AdapterReport] = []
  private(set) var factors: [Factor] = []
  private(set) var warnings: [String] = []
  private(set) var inputs: [InputFile] = []

  /// Says where the selection leaves nothing of any adapter, so that the model would be copied.
  var selectionWarnings: [String] {
    guard reports.allSatisfy({ $0.applied == 0 && $0.excluded > 0 }) else { return [] }
    return ["--include and --exclude leave out all that the adapters change"]
  }

  /// Says which adapters an undo record has nothing of, so that they stay where they are merged.
  var unrecordedWarnings: [String] {
    reports.filter { $0.applied == 0 && $0.excluded > 0 }.map {
      "\($0.path): the undo record is not of this adapter; what it changes stays as it is"
    }
  }

  /// Opens and resolves every adapter.
  ///
  /// - Parameters:
  ///   - request: The adapters with their weights, and which tensors take part.
  ///   - model: What they change.
  ///   - recorded: The tensors that an undo record knows, which then take part and no others.
  ///   - limits: What reading may cost.
  /// - Throws: What opening and resolving throw; `merge.weight`, `merge.quantised`, `merge.conflict`, `usage.scale-for`.
  init(
    _ request: MergeRequest, model: Checkpoint, recorded: Set<TensorName>? = nil,
    limits: ReadLimits
  ) throws(SurgeryError) {
    let matcher = try request.selection.matcher()
    func takesPart(_ name: TensorName) -> Bool {
      recorded.map { $0.contains(name) } ?? matcher.selects(name)
    }
    let scales = try ScaleRules(request.scaleFor)
    var used = Set<Int>()
    func factor(for name: TensorName) -> Double {
      guard let rule = scales.rule(for: name) else { return 1 }
      used.insert(rule.index)
      return rule.factor
    }
    var options = request.adapterOptions
    // A merged model is no longer the base that an adapter records.
    if request.direction == .unmerge { options.allowsOtherBase = true }
    var opened: [Adapter] = []
    for (position, weighted) in request.adapters.enumerated() {
      guard weighted.weight.isFinite else {
        throw SurgeryError(
          .usage, "merge.weight", "the weight of an adapter is not finite", file: weighted.path,
          found: "\(weighted.weight)")
      }
      let adapter = try Adapter(opening: weighted.path, options: options, limits: limits)
      let resolved = try adapter.resolved(against: model, options: options)
      opened.append(adapter)
      warnings += adapter.named(resolved.warnings, among: request.adapters.count)
      inputs += resolved.inputs
      var applied = 0
      var excluded = 0
      for tensor in resolved.tensors {
        let count = tensor.updates.count + (tensor.replacement == nil ? 0 : 1)
        guard takesPart(tensor.name) else {
          excluded += count
          continue
        }
        applied += count
        try QuantisedBase.refuse(tensor.name, in: model)
        updates[tensor.name, default: []].append(
          WeightedUpdates(
            updates: tensor, weight: weighted.weight * factor(for: tensor.name), adapter: position))
        factors += tensor.updates.flatMap(\.update.factors)
        if tensor.replacement != nil { factors.append(Factor(tensor.source)) }
      }
      for addition in resolved.additions {
        let count = addition.updates.count + (addition.replacement == nil ? 0 : 1)
        guard takesPart(addition.name) else {
          excluded += count
          continue
        }
        guard model[addition.name] == nil,
          !additions.contains(where: { $0.updates.name == addition.name })
        else {
          throw SurgeryError(
            .data, "merge.conflict",
            "an adapter adds a tensor that the model, or an adapter before it, has already",
            file: weighted.path, tensor: addition.name.text,
            hint: "merge one of them, or --exclude the tensor")
        }
        applied += count
        additions.append(
          WeightedUpdates(
            updates: addition, weight: weighted.weight * factor(for: addition.name),
            adapter: position))
        factors += addition.updates.flatMap(\.update.factors)
        if addition.replacement != nil { factors.append(Factor(addition.source)) }
      }
      reports.append(
        AdapterReport(
          path: weighted.path, weight: weighted.weight,
          dialect: adapter.provenance.dialect.rawValue,
          modules: adapter.modules.count + adapter.replacements.count, applied: applied,
          excluded: excluded, unmatched: resolved.unmatched))
    }
    warnings += opened.repetitionWarnings
    if let unused = request.scaleFor.indices.first(where: { !used.contains($0) }) {
      throw SurgeryError(
        .usage, "usage.scale-for", "--scale-for matches no tensor that an adapter changes",
        found: request.scaleFor[unused].pattern)
    }
  }

  /// Fails where a factor holds NaN or infinity, before anything is written.
  ///
  /// - Throws: `adapter.non-finite` with the tensor and the index.
  static func checkFinite(
    _ factors: [Factor], _ execution: Execution
  ) throws(SurgeryError) {
    let floating = factors.filter(\.dtype.isFloatingPoint)
    _ = try Workers(count: execution.jobs).map(
      floating.count, cost: { floating[$0].count }, interruption: execution.interruption
    ) { (index) throws(SurgeryError) in
      let statistics = try TensorStatistics(
        of: floating[index].tensor, interruption: execution.interruption,
        progress: execution.progress)
      guard let element = statistics.firstNonFinite else { return }
      let tensor = floating[index].tensor
      throw SurgeryError(
        .data, "adapter.non-finite", "the adapter has a value that is not finite",
        file: tensor.source.file.path, tensor: tensor.name.text, expected: "finite values",
        found: "element \(element)")
    }
  }
}

/// The factors that `--scale-for` gives.
private struct ScaleRules {
  private let rules: [(pattern: NamePattern, factor: Double)]

  init(_ rules: [ScaleRule]) throws(SurgeryError) {
    self.rules = try rules.map { (rule) throws(SurgeryError) in
      guard rule.factor.isFinite else {
        throw SurgeryError(
          .usage, "usage.scale-for", "the factor is not finite", found: "\(rule.factor)")
      }
      return (try NamePattern(rule.pattern), rule.factor)
    }
  }

  func rule(for name: TensorName) -> (index: Int, factor: Double)? {
    rules.firstIndex { $0.pattern.matches(name.text) }.map { ($0, rules[$0].factor) }
  }
}
