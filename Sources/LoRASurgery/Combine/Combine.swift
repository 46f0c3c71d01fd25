import Adapters
import Checkpoints
public import Tensors

extension CombineRequest {
  /// Combines, and writes the adapter.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What became of every module; for sums, with what the result lacks of the exact weighted sum.
  /// - Throws: `combine.…` for adapters that cannot be combined so, and what opening, reading and writing throw; no output
  ///   is visible then.
  /// - Complexity: For methods on factors and for `concat` and `svd`, as reading the adapters and O((*out* + *in*) · *rank*²)
  ///   for each module; the other `-svd` methods form every change whole, in double precision for each adapter, and
  ///   decompose it.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let choice = try checkedRanks()
    let sources = try adapters.map { (weighted) throws(SurgeryError) in
      try Adapter(
        factorsAt: weighted.path, options: adapterOptions,
        limits: execution.limits)
    }
    let plan = try CombinePlan(self, adapters: sources, choice: choice)
    let output = try AdapterOutput(
      to: output, dialect: dialect, like: sources[0], dtype: dtype, force: force, dryRun: dryRun,
      allowOverflow: allowOverflow)
    let inputs = sources.flatMap(\.inputs)
    let combination = Combination(
      method: method == .concat && choice.isComplete ? .svd : method,
      arithmetic: TaskArithmetic(
        kind: method.arithmetic, density: density ?? 1, majoritySign: majoritySign, seed: seed),
      spool: try output.spool(reading: inputs))
    execution.progress.begin("combining", total: sources.reduce(0) { $0 + $1.byteCount })
    let workers = Workers(count: execution.jobs)
    var rules = plan.steps.map(\.rule)
    if let budget = choice.budget {
      let items = try workers.map(
        plan.steps.count, cost: { plan.steps[$0].cost }, interruption: execution.interruption
      ) { (index) throws(SurgeryError) in try combination.item(plan.steps[index]) }
      let ranks = try RankAllocation(
        items, budget: budget, parameters: sources.reduce(0) { $0 + $1.parameterCount }
      ).ranks
      rules = ranks.map { RankRule(.fixed($0), within: $0...$0) }
    }
    let chosen = rules
    let outcomes = try workers.map(
      plan.steps.count, cost: { plan.steps[$0].cost }, interruption: execution.interruption
    ) { (index) throws(SurgeryError) in
      defer { execution.progress.advance(by: plan.steps[index].byteCount) }
      do throws(SurgeryError) {
        return try combination.combine(plan.steps[index], chosen[index])
      } catch {
        throw error.inTensor(plan.steps[index].first.tensorName)
      }
    }
    var result = sources[0]
    // What the first says of its training is not true of all together.
    if sources.count > 1 { result.provenance.forgetTraining() }
    result.modules = outcomes.compactMap(\.module)
    result.replacements = plan.replacements
    var report = OperationReport(
      command: "combine",
      modules: outcomes.map(\.report) + plan.replacements.map { TensorReport($0) } + plan.leftOut)
    report.warnings =
      sources.flatMap { $0.named($0.provenance.warnings, among: sources.count) }
      + sources.repetitionWarnings + plan.warnings
    report.totals.bytesRead = sources.reduce(0) { $0 + $1.byteCount }
    result.provenance.command = (["combine", "--method \(method.rawValue)"] + ranks.words).joined(
      separator: " ")
    try output.write(result, inputs: inputs, into: &report, execution)
    report.totals.measure(stopwatch)
    return report
  }

  private func checkedRanks() throws(SurgeryError) -> RankChoice {
    guard !adapters.isEmpty else {
      throw SurgeryError(.usage, "combine.adapters", "no adapter is given")
    }
    for weighted in adapters where !weighted.weight.isFinite {
      throw SurgeryError(
        .usage, "combine.weight", "the weight of an adapter is not finite", file: weighted.path,
        found: "\(weighted.weight)")
    }
    if method.prunes || density != nil {
      guard let density, density > 0, density <= 1 else {
        throw SurgeryError(
          .usage, "combine.density", "\(method.rawValue) needs the share of elements to keep",
          expected: "more than 0 and at most 1", found: density.map { "\($0)" } ?? "none",
          hint: "give --density")
      }
    }
    let choice = try ranks.choice()
    if method.worksOnFactors, choice.isComplete || ranks != RankOptions() {
      throw SurgeryError(
        .usage, "combine.rank", "\(method.rawValue) keeps the rank of the factors",
        hint: "use svd or \(method.rawValue)-svd, or resize the result")
    }
    return choice
  }
}
