import Adapters
import Checkpoints
public import Tensors

extension ResizeRequest {
  /// Resizes, and writes the adapter.
  ///
  /// Every pair of factors is decomposed without forming its product, in double precision; the factors of the new rank
  /// are balanced, and the scale is in them.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What became of every module, with the energies after rounding.
  /// - Throws: `rank.…` for options that make no sense, `resize.nothing` where no module is low-rank, and what opening,
  ///   reading and writing throw; no output is visible then.
  /// - Complexity: O((*out* + *in*) · *rank*²) for each module, twice with a budget; memory for the factors of one module
  ///   a worker.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let choice = try ranks.choice(isRequired: true)
    let source = try Adapter(
      factorsAt: adapter, options: adapterOptions, limits: execution.limits)
    let plan = try ResizePlan(source, choice: choice, selection: selection)
    let output = try AdapterOutput(
      to: output, dialect: dialect, like: source, dtype: dtype, force: force, dryRun: dryRun,
      allowOverflow: allowOverflow)
    let inputs = source.inputs
    let workers = Workers(count: execution.jobs)
    let spool = try output.spool(reading: inputs)
    execution.progress.begin("resizing", total: source.byteCount)
    var fixed: [Int?] = plan.steps.map { _ in nil }
    if let budget = choice.budget {
      let items = try workers.map(
        plan.steps.count, cost: { plan.steps[$0].cost }, interruption: execution.interruption
      ) { (index) throws(SurgeryError) in try plan.steps[index].item(storedAs: dtype) }
      fixed = try RankAllocation(
        items, budget: budget, parameters: source.parameterCount
      ).ranks
    }
    let chosen = fixed
    let outcomes = try workers.map(
      plan.steps.count, cost: { plan.steps[$0].cost }, interruption: execution.interruption
    ) { (index) throws(SurgeryError) in
      defer { execution.progress.advance(by: plan.steps[index].byteCount) }
      return try plan.steps[index].resized(to: chosen[index], spool)
    }
    var result = source
    result.modules = plan.kept
    var reports = plan.reports
    for (step, outcome) in zip(plan.steps, outcomes) {
      reports[step.position] = outcome.report
      result.modules[step.position] = outcome.module
    }
    result.modules = zip(result.modules, reports).filter { $1.rank != 0 }.map(\.0)
    var report = OperationReport(command: "resize", modules: reports)
    report.input = adapter
    report.warnings = source.provenance.warnings
    report.totals.bytesRead = source.byteCount
    result.provenance.command = (["resize"] + ranks.words).joined(separator: " ")
    try output.write(result, inputs: inputs, into: &report, execution)
    report.totals.measure(stopwatch)
    return report
  }
}
