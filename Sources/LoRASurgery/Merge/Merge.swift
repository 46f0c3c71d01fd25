import Checkpoints
public import Tensors

extension MergeRequest {
  /// Merges, or takes out, and writes the result.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What was done to every tensor of the model.
  /// - Throws: What opening, resolving, reading and writing throw; no output is visible then.
  /// - Complexity: One pass over the model; memory for the factors and blocks of one tensor a worker.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let model = try Checkpoint(opening: self.model)
    let plan = try MergePlan(self, model: model)
    var reports = plan.reports
    if !dryRun {
      let writer = try CheckpointWriter(
        plan.output, replacing: force, inputs: plan.inputs, interruption: execution.interruption)
      execution.progress.begin(
        direction == .merge ? "merging" : "unmerging", total: model.byteCount)
      let outcomes = try RewritePipeline(
        writer: writer, execution: execution,
        arithmetic: Arithmetic(precision: precision, rounding: .nearest, allowOverflow: allowOverflow)
      ).run(plan.steps)
      try writer.commit()
      for (index, outcome) in outcomes.enumerated() where outcome.sums.loss.overflowed > 0 {
        reports[index].overflowed = outcome.sums.loss.overflowed
      }
    }
    var report = OperationReport(command: direction.rawValue, modules: reports)
    report.output = dryRun ? nil : output
    report.warnings = plan.warnings
    report.totals.bytesRead = model.byteCount
    report.totals.bytesWritten = dryRun ? 0 : plan.output.byteCount
    report.totals.seconds = stopwatch.seconds
    report.totals.peakMemory = Stopwatch.peakMemory
    return report
  }
}
