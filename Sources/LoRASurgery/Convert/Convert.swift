import Adapters
import Checkpoints
public import Tensors

extension ConvertRequest {
  /// Converts, streaming.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What was done to every tensor.
  /// - Throws: What opening, reading and writing throw; `convert.name` where two tensors get the same name;
  ///   `adapter.inexpressible` for what a dialect cannot hold.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    try concernsAdapter(execution.limits) ? runOnAdapter(execution) : runOnCheckpoint(execution)
  }

  /// Whether the input is to be read as an adapter: where a dialect or another word of adapters is asked for.
  private func concernsAdapter(_ limits: ReadLimits) -> Bool {
    if asLowRank || adapterOptions.dialect != nil { return true }
    switch dialect ?? Dialect(containerOf: output) {
    // As a checkpoint it would lose what its header says of the adapter.
    case nil:
      return FileFormat(extensionOf: input) == .compact
        && Adapter.isAdapter(at: input, limits: limits)
    case .gguf, .compact: return Adapter.isAdapter(at: input, limits: limits)
    case .some: return true
    }
  }

  private func runOnCheckpoint(_ execution: Execution) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let source = try Checkpoint(opening: input, limits: execution.limits)
    let format = try form.format(of: output, from: source)
    let conversions = try TensorConversion.all(of: source, for: self, into: format)
    let (plan, places) = try CheckpointPlan.rewriting(
      source, as: conversions.map(\.info), to: output, form: form, metadata: edited)
    var finished = conversions.map(\.report)
    if !dryRun {
      let writer = try CheckpointWriter(
        plan, replacing: force, inputs: source.files.map(\.file.file),
        interruption: execution.interruption)
      execution.progress.begin("converting", total: source.byteCount)
      var steps: [TensorStep] = []
      var positions: [Int] = []
      for (index, place) in places.enumerated() {
        guard let place, let info = conversions[index].info else { continue }
        steps.append(
          TensorStep(source: conversions[index].source, place: place, dtype: info.dtype))
        positions.append(index)
      }
      let outcomes = try RewritePipeline(
        writer: writer, execution: execution,
        arithmetic: Arithmetic(allowOverflow: allowOverflow)
      ).run(steps)
      try writer.commit()
      for (position, outcome) in zip(positions, outcomes)
      where outcome.sums.loss.overflowed > 0 {
        finished[position].overflowed = outcome.sums.loss.overflowed
      }
    }
    var report = OperationReport(command: "convert", modules: finished)
    report.output = dryRun ? nil : output
    report.warnings = source.warnings
    if plan.kind == .file, format == .npy, let lost = plan.files.first?.metadata, !lost.isEmpty {
      report.warnings.append(
        "an npy file holds no metadata; left out: \(lost.keys.sorted().joined(separator: ", "))")
    }
    report.totals.bytesRead = source.byteCount
    report.totals.bytesWritten = dryRun ? 0 : plan.byteCount
    report.totals.seconds = stopwatch.seconds
    report.totals.peakMemory = Stopwatch.peakMemory
    return report
  }

  private func edited(_ old: [String: String]) -> [String: String] {
    old.filter { !droppedMetadata.contains($0.key) }.merging(metadata) { $1 }
  }
}

extension Dialect {
  /// The dialect whose own container a path's extension names.
  init?(containerOf path: String) {
    switch FileFormat(extensionOf: path) {
    case .gguf: self = .gguf
    case .compact: self = .compact
    default: return nil
    }
  }
}
