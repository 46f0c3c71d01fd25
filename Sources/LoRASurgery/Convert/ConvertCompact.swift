import Adapters
import Checkpoints
import Tensors

extension ConvertRequest {
  /// Writes an adapter as a compact file: exactly as it is, or with a stated error.
  func runToCompact(_ execution: Execution) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    var others = ranks
    others.maxError = nil
    guard others == RankOptions() else {
      throw SurgeryError(
        .usage, "convert.ranks", "converting to a compact file chooses no ranks",
        hint: "--max-error, --max-error-total or --quality states an error; resize changes ranks")
    }
    let source = try Adapter(
      factorsAt: input, options: adapterOptions, limits: execution.limits)
    var (adapter, leftOut) = try selection.matcher().selection(from: source)
    var inputs = adapter.inputs
    var warnings = adapter.provenance.warnings
    if let base {
      let model = try Checkpoint(opening: base, limits: execution.limits)
      inputs += model.files.map(\.file.file)
      let resolved = try adapter.resolved(against: model, options: adapterOptions)
      adapter = resolved.withPairsSolved
      warnings = resolved.warnings
      adapter.provenance.base = try BaseFingerprint(
        of: model, tensors: resolved.tensors.map(\.name))
    }
    let destination = try AdapterForm(path: output, dialect: .compact)
    var options = destination.options(dtype: dtype)
    options.maximumError = ranks.maxError
    options.maximumTotalError = maximumTotalError
    options.quality = quality
    let writing = try adapter.plan(to: output, options: options)
    var report = OperationReport(
      command: "convert",
      modules: adapter.modules.map { module in
        var report = TensorReport(module.tensorName, .converted, shape: module.shape)
        report.rank = module.update.rank
        return report
      } + adapter.replacements.map { TensorReport($0) } + leftOut)
    report.warnings = warnings + writing.notes
    report.totals.bytesRead = adapter.byteCount
    report.totals.parameters = adapter.parameterCount
    if !dryRun {
      try writing.write(replacing: force, inputs: inputs, execution)
      report.output = output
      report.totals.bytesWritten = try writing.writtenBytes()
    }
    report.totals.measure(stopwatch)
    return report
  }
}
