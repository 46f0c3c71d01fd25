import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Turns the changes of an adapter into such as a dialect can express, exactly where that is possible.
struct AdapterConversion {
  let request: ConvertRequest
  let dialect: Dialect
  let choice: RankChoice
  let spool: FactorSpool
  let execution: Execution
  private(set) var modules: [ModuleUpdate] = []
  private(set) var replacements: [Replacement] = []
  private(set) var reports: [TensorReport] = []
  var warnings: [String] = []
  /// What the base says of its tensors.
  var architecture: Architecture?
  /// Changes that wait to be factored anew, with their places in `modules`.
  private var pending: [PendingFactors] = []

  init(
    request: ConvertRequest, dialect: Dialect, choice: RankChoice, spool: FactorSpool,
    execution: Execution
  ) {
    self.request = request
    self.dialect = dialect
    self.choice = choice
    self.spool = spool
    self.execution = execution
  }

  /// Converts changes whose tensors are known.
  mutating func convert(_ resolved: ResolvedAdapter) throws(SurgeryError) {
    let matcher = try request.selection.matcher()
    for tensor in resolved.tensors + resolved.additions {
      guard matcher.selects(tensor.name) else {
        reports.append(.leftOut(tensor.name, shape: tensor.source.info.shape))
        continue
      }
      if let reason = tensor.replacement {
        add(Replacement(of: tensor.name, with: tensor.source, reason: reason))
      }
      guard let first = tensor.updates.first else { continue }
      do throws(SurgeryError) {
        if tensor.updates.count == 1, first.update.rows == tensor.outputs {
          let module = ModuleUpdate(
            changing: tensor.name, by: try first.update.inForm(of: tensor, architecture),
            scale: first.scale)
          try convert(module) { (interruption) throws(SurgeryError) in
            try AppliedDelta(tensor, interruption: interruption)
          } whole: { (spool) throws(SurgeryError) in
            try tensor.replaced(spool)
          }
          pending.complete(
            form: tensor.form, isTransposed: tensor.isTransposed, at: modules.count - 1)
        } else {
          try join(tensor)
        }
      } catch {
        throw error.inFile(resolved.adapter.path).inTensor(tensor.name)
      }
    }
    try factorPending(parameters: resolved.adapter.parameterCount)
  }

  /// Converts changes as the adapter names them.
  mutating func convert(_ adapter: Adapter) throws(SurgeryError) {
    let (selected, leftOut) = try request.selection.matcher().selection(from: adapter)
    reports += leftOut
    for replacement in selected.replacements { add(replacement) }
    for module in selected.modules {
      let scale = try module.knownScale(of: adapter)
      try convert(module) { (interruption) throws(SurgeryError) in
        guard module.update.isAdditive else {
          throw SurgeryError(
            .usage, "convert.base", "what the adapter changes depends on the base",
            file: adapter.path, tensor: module.name, found: module.update.algorithm,
            hint: "--base gives the model")
        }
        return try AppliedDelta(module.update, scale: scale, interruption: interruption)
      } whole: { _ in
        nil
      }
    }
    try factorPending(parameters: adapter.parameterCount)
  }

  private mutating func add(_ replacement: Replacement) {
    replacements.append(replacement)
    reports.append(TensorReport(replacement))
  }

  /// Converts one change: as it is, folded into two factors, or put off to be factored anew.
  private mutating func convert(
    _ module: ModuleUpdate,
    delta: @escaping @Sendable (Interruption) throws(SurgeryError) -> AppliedDelta,
    whole: (FactorSpool) throws(SurgeryError) -> StoredTensor?
  ) throws(SurgeryError) {
    var report = TensorReport(module.tensorName, .converted, shape: module.shape)
    report.rank = module.update.rank
    let keepsCore = dialect == .kohya || dialect == .comfyui
    if module.update.productRank != nil, !module.update.isPlainProduct(keepsCore: keepsCore) {
      guard let factors = try module.update.products(as: Double.self) else { return }
      report.reason = "\(module.update.algorithm) multiplied out"
      add(
        try module.replacing(spool.store(factors, like: module.dtype), scale: module.scale), report)
    } else if request.asLowRank, module.update.productRank == nil {
      if module.isVector {
        // What is no matrix has no factors; a dialect without differences takes the changed tensor itself.
        if keepsCore || module.target.parameter == "bias" {
          add(module, report)
        } else if let tensor = try whole(spool) {
          add(Replacement(of: module.tensorName, with: tensor, reason: "changed in full"))
        } else {
          add(module, report)
        }
        return
      }
      pending.append(
        PendingFactors(
          position: modules.count, report: reports.count,
          rule: choice.rule(for: module.tensorName, kernel: module.kernel), delta: delta,
          dtype: module.dtype, form: module.storedForm))
      report.action = .lowRank
      report.reason = "\(module.update.algorithm) factored"
      add(module, report)
    } else {
      add(module, report)
    }
  }

  private mutating func add(_ module: ModuleUpdate, _ report: TensorReport) {
    modules.append(module)
    reports.append(report)
  }

  /// Several changes of one tensor, or changes of parts of it, as one product whose ranks add up.
  private mutating func join(_ tensor: TensorUpdates) throws(SurgeryError) {
    var pieces: [Factors<Double>] = []
    for piece in tensor.updates {
      guard let factors = try piece.update.products(as: Double.self), factors.count == 1 else {
        continue
      }
      pieces.append(
        factors[0].scaled(by: piece.scale).placed(at: piece.rows.lowerBound, of: tensor.outputs))
    }
    guard pieces.count == tensor.updates.count, let sum = Factors.sum(of: pieces) else {
      throw SurgeryError(
        .unsupported, "adapter.inexpressible",
        "several changes of one tensor that are not all low-rank have no common form",
        found: Set(tensor.updates.map(\.update.algorithm)).sorted().joined(separator: ", "))
    }
    let module = ModuleUpdate(
      changing: tensor.name, by: try tensor.updates[0].update.inForm(of: tensor, architecture))
    var report = TensorReport(
      tensor.name, .converted, shape: tensor.source.info.shape,
      reason: "\(pieces.count) changes of the tensor joined")
    report.rank = sum.rank
    add(
      try module.replacing(spool.store(sum, like: module.dtype), scale: 1, form: tensor.form),
      report)
  }

  /// Factors what waits for it, in parallel.
  private mutating func factorPending(parameters: Int) throws(SurgeryError) {
    let pending = pending
    let workers = Workers(count: execution.jobs)
    let interruption = execution.interruption
    var rules = pending.map(\.rule)
    if let budget = choice.budget {
      let items = try workers.map(
        pending.count, cost: { _ in 1 }, interruption: interruption
      ) { [spool] (index) throws(SurgeryError) in
        var delta = try pending[index].delta(interruption)
        return RankAllocation.Item(
          spectrum: try DeltaFactoring.spectrum(of: &delta), rule: pending[index].rule,
          dtype: spool.storageDType(like: pending[index].dtype), defaultRank: 1)
      }
      rules = try RankAllocation(items, budget: budget, parameters: parameters).ranks.map {
        RankRule(.fixed($0), within: $0...$0)
      }
    }
    let factoring = DeltaFactoring(spool: spool, defaultRank: 1)
    let chosen = rules
    let factored = try workers.map(
      pending.count, cost: { _ in 1 }, interruption: interruption
    ) { (index) throws(SurgeryError) in
      var delta = try pending[index].delta(interruption)
      return FactoringOutcome(
        squaredNorm: try squaredNorm(of: &delta),
        matrix: try factoring.factor(
          &delta, rule: chosen[index], like: pending[index].dtype))
    }
    var dropped = Set<Int>()
    for (waiting, outcome) in zip(pending, factored) {
      guard let matrix = outcome.matrix else {
        dropped.insert(waiting.position)
        reports[waiting.report].action = .skipped
        reports[waiting.report].reason = "rank 0"
        reports[waiting.report].setEnergies(
          squaredNorm: outcome.squaredNorm, squaredResidual: outcome.squaredNorm)
        continue
      }
      reports[waiting.report].rank = matrix.rank
      reports[waiting.report].setEnergies(
        squaredNorm: matrix.squaredNorm, squaredResidual: matrix.squaredResidual)
      modules[waiting.position] = try modules[waiting.position].replacing(
        matrix.pair, scale: 1, form: waiting.form, isTransposed: waiting.isTransposed)
    }
    modules = modules.enumerated().filter { !dropped.contains($0.offset) }.map(\.element)
  }
}

/// What factoring found; no matrix where the rank is 0.
private struct FactoringOutcome: Sendable {
  let squaredNorm: Double
  let matrix: FactoredMatrix?
}

/// A change that is to be factored.
private struct PendingFactors: Sendable {
  let position: Int
  let report: Int
  let rule: RankRule
  let delta: @Sendable (Interruption) throws(SurgeryError) -> AppliedDelta
  let dtype: DType
  var form: LowRank.Form
  var isTransposed = false
}

extension [PendingFactors] {
  /// Notes what the base says of the change that was put off last, if it is the one at this place.
  fileprivate mutating func complete(form: LowRank.Form, isTransposed: Bool, at position: Int) {
    if let last = indices.last, self[last].position == position {
      self[last].form = form
      self[last].isTransposed = isTransposed
    }
  }
}
