public import Adapters
import Checkpoints
public import Tensors

/// Asks whether a model is what merging adapters into a base gives.
public struct VerifyRequest: Sendable, Codable {
  /// The base: file or folder.
  public var base: String
  /// The adapters, in the order in which they were merged.
  public var adapters: [WeightedAdapter]
  /// The model in question.
  public var merged: String
  /// What the user says about the adapters.
  public var adapterOptions = AdapterOptions()
  /// Factors for the deltas of tensors whose names match.
  public var scaleFor: [ScaleRule] = []
  /// Which tensors are looked at.
  public var selection = Selection()
  /// The precision of the arithmetic; with float64, exact means equal to the float64 value rounded once.
  public var precision = Precision.float32

  /// Asks for a verification.
  public init(base: String, adapters: [WeightedAdapter], merged: String) {
    self.base = base
    self.adapters = adapters
    self.merged = merged
  }

  /// Merges in memory, block by block, and compares with what is there.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: One entry for each tensor of either model, the worst first.
  /// - Throws: What opening, resolving and reading throw.
  /// - Complexity: One pass over both models, and another over the tensors that differ.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> VerifyReport {
    let matcher = try selection.matcher()
    let (model, result) = (
      try Checkpoint(opening: base, limits: execution.limits),
      try Checkpoint(opening: merged, limits: execution.limits)
    )
    var merge = MergeRequest(model: base, adapters: adapters, output: "")
    merge.adapterOptions = adapterOptions
    merge.scaleFor = scaleFor
    let changes = try AdapterChanges(merge, model: model, limits: execution.limits)
    var pairs: [(planned: PlannedRewrite, merged: StoredTensor?)] = []
    for tensor in model.tensors where matcher.selects(tensor.name) {
      pairs.append(
        (try PlannedRewrite(tensor, changes.updates[tensor.name] ?? [], merge), result[tensor.name])
      )
    }
    for addition in changes.additions where matcher.selects(addition.updates.name) {
      pairs.append((try PlannedRewrite(adding: addition, merge), result[addition.updates.name]))
    }
    let known = Set(pairs.map(\.planned.info.name))
    execution.progress.begin(
      "verifying", total: pairs.reduce(0) { $0 + $1.planned.info.byteCount })
    let precision = precision
    let found = try Workers(count: execution.jobs).map(
      pairs.count, cost: { pairs[$0].planned.info.byteCount },
      interruption: execution.interruption
    ) { [pairs] (index) throws(SurgeryError) in
      let (planned, merged) = pairs[index]
      defer { execution.progress.advance(by: planned.info.byteCount) }
      return try TensorVerification(planned, merged, precision, execution)
    }
    let extra = result.tensors.filter { !known.contains($0.name) && matcher.selects($0.name) }.map {
      TensorVerification($0.name, .extra, reason: "not in the base and not added by an adapter")
    }
    try model.checkUnchanged()
    try result.checkUnchanged()
    return VerifyReport(
      modules: found + extra,
      warnings: model.warnings + result.warnings + changes.warnings)
  }
}
