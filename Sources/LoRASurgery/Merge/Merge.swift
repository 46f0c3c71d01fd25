import Adapters
import Checkpoints
public import Tensors

extension MergeRequest {
  /// Merges, or takes out, and writes the result.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What was done to every tensor of the model.
  /// - Throws: What opening, resolving, reading and writing throw; no output is visible then.
  /// - Complexity: One pass over the model; memory for the factors and blocks of one tensor a worker, and for the whole of a
  ///   tensor that an update needs whole.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    guard undo == nil || part == nil else {
      throw SurgeryError(
        .usage, "part.undo", "the undo record of a merge is not written or read in parts",
        hint: "leave out --undo, or --part")
    }
    try dtype.checkedForTensors()
    if direction == .unmerge, let undo { return try restore(from: undo, execution) }
    if let undo { try checkIsBeside(undo) }
    let stopwatch = Stopwatch()
    let model = try Checkpoint(opening: self.model, limits: execution.limits)
    let plan = try MergePlan(self, model: model, limits: execution.limits)
    if let part { return try run(part, of: plan, model, execution) }
    var report: OperationReport
    if dryRun {
      report = OperationReport(command: direction.rawValue, modules: plan.reports)
    } else {
      try AdapterChanges.checkFinite(plan.factors, execution)
      report = try write(plan, model, execution)
    }
    report.adapters = plan.adapters
    report.warnings = plan.warnings + plan.layoutNotes
    if !dryRun { report.warnings += report.mergeWarnings(direction) }
    report.totals.bytesRead = model.byteCount
    report.totals.measure(stopwatch)
    return report
  }

  /// Refuses a record that would be replaced by the model, or with the model's folder.
  private func checkIsBeside(_ undo: String) throws(SurgeryError) {
    var places = Places()
    let (record, model) = (places.name(of: undo), places.name(of: output))
    guard record == model || Places.folders(above: record).contains(model) else { return }
    throw SurgeryError(
      .usage, "undo.place", "the undo record would lie where the model goes", file: undo,
      found: output, hint: "name a file beside the output")
  }

  /// Merges the tensors of one part.
  private func run(
    _ part: Part, of plan: MergePlan, _ model: Checkpoint, _ execution: Execution
  ) throws(SurgeryError) -> OperationReport {
    if !dryRun { try AdapterChanges.checkFinite(plan.factors, execution) }
    var divided = DividedRewriting(
      command: direction.rawValue, options: try ManifestJSON.text(withoutPlaces), source: model,
      infos: plan.infos, steps: plan.steps, reports: plan.reports, output: plan.output,
      form: OutputForm(maximumShardSize: maximumShardSize),
      arithmetic: Arithmetic(
        precision: precision, rounding: rounding, allowOverflow: allowOverflow),
      inputs: plan.inputs)
    divided.adapters = plan.adapters
    divided.warnings = plan.warnings
    if let edit = plan.configEdit, let config = model.config {
      divided.config = (edit.text(of: config), edit.summary)
    }
    return try divided.run(part, to: output, replacing: force, dryRun: dryRun, execution)
  }

  /// The request without what may differ between machines, and without what the result does not depend on.
  private var withoutPlaces: Self {
    var request = self
    (request.model, request.output) = ("", "")
    request.adapters = adapters.map { WeightedAdapter("", weight: $0.weight) }
    (request.force, request.dryRun, request.part) = (false, false, nil)
    return request
  }

  private func write(
    _ plan: MergePlan, _ model: Checkpoint, _ execution: Execution
  ) throws(SurgeryError) -> OperationReport {
    let writer = try CheckpointWriter(
      plan.output, replacing: force, inputs: plan.inputs, interruption: execution.interruption)
    var recording: UndoRecording?
    if let undo {
      let steps = try UndoRecording.planned(plan.steps, bases: plan.bases)
      var record = UndoRecord()
      record.tensors = steps.values.sorted { $0.position < $1.position }.map(\.entry)
      record.config = plan.originalConfig
      record.added = zip(plan.steps, plan.bases).compactMap { $1 == nil ? $0.source.name : nil }
      recording = UndoRecording(
        writer: try UndoWriter(
          undo, record: record, replacing: force, inputs: plan.inputs,
          interruption: execution.interruption), steps: steps)
    }
    execution.progress.begin(
      direction == .merge ? "merging" : "unmerging", total: model.byteCount)
    let outcomes = try RewritePipeline(
      writer: writer, execution: execution,
      arithmetic: Arithmetic(
        precision: precision, rounding: rounding, allowOverflow: allowOverflow), undo: recording
    ).run(plan.steps)
    // An old record is replaced only when nothing but a rename is left to do for the model it does not fit. The record first:
    // without its merge it is of no use, but a merge without its record cannot be taken back.
    let recordBytes = try recording?.writer.finish()
    try writer.finish()
    try recording?.writer.publish()
    try writer.publish()
    var reports = plan.reports
    for (index, outcome) in outcomes.enumerated() where !plan.steps[index].updates.isEmpty {
      reports[index].setSums(outcome.sums)
    }
    var report = OperationReport(command: direction.rawValue, modules: reports)
    report.output = output
    report.totals.bytesWritten = plan.output.byteCount
    report.totals.undoBytes = recordBytes
    return report
  }
}

extension TensorReport {
  /// Sets what adding a delta found.
  mutating func setSums(_ sums: AdditionSums) {
    deltaNorm = sums.squaredDelta.squareRoot()
    if sums.squaredWeight > 0 {
      relativeNorm = (sums.squaredDelta / sums.squaredWeight).squareRoot()
    }
    if sums.squaredDelta > 0 { survivingShare = sums.kept / sums.squaredDelta }
    changedElements = sums.changed
    if sums.loss.overflowed > 0 { overflowed = sums.loss.overflowed }
  }
}

extension OperationReport {
  /// The share of a delta that rounding may take before the user is told.
  private static var tolerableShare: Double { 0.9 }

  /// Elements of tensors that were added to.
  private var roundedElements: Int {
    modules.reduce(0) { $0 + ($1.changedElements == nil ? 0 : $1.shape.elementCount) }
  }

  /// What the user should know of the sums of a merge or its inverse.
  func mergeWarnings(_ direction: MergeDirection) -> [String] {
    if direction == .merge { return lowPrecisionWarnings }
    return lowPrecisionWarnings + [
      "what rounding lost when merging stays lost: \(roundedElements, counting: "element") of the changed tensors "
        + "may differ from the base by a unit in the last place or more; merge --undo writes a record that restores them"
    ]
  }

  /// A warning where deltas drown in the rounding of their storage dtype.
  private var lowPrecisionWarnings: [String] {
    let lost = modules.filter { ($0.survivingShare ?? 1) < Self.tolerableShare }
    guard let worst = lost.min(by: { ($0.survivingShare ?? 1) < ($1.survivingShare ?? 1) }),
      let share = worst.survivingShare
    else { return [] }
    return [
      "\(lost.count, counting: "tensor"): the delta is below the rounding step of their dtype; of that of \(worst.tensor) "
        + "\(Int((share * 100).rounded())) % survives (--dtype f32 keeps it, --rounding stochastic keeps it on average)"
    ]
  }
}
