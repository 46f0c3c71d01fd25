import Adapters
import Checkpoints
import Tensors

extension MergeRequest {
  /// Takes a merge back bit for bit, by the record that it wrote.
  ///
  /// The adapters are needed where the record predicts by subtracting; scales and weights are those recorded.
  ///
  /// - Throws: `undo.…`, and what opening, reading and writing throw; no output is visible then.
  func restore(from path: String, _ execution: Execution) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let model = try Checkpoint(opening: self.model, limits: execution.limits)
    let reader = try UndoReader(path)
    let record = reader.record
    guard dtype == nil else {
      throw SurgeryError(
        .usage, "undo.dtype", "--dtype does not go with --undo, which restores the base as it was")
    }
    let entries = Dictionary(
      record.tensors.enumerated().map { ($1.base.name, $0) },
      uniquingKeysWith: { first, _ in first })
    var own = self
    own.scaleFor = []
    let changes = try AdapterChanges(
      own, model: model, recorded: Set(entries.keys).union(record.added),
      limits: execution.limits)
    for entry in record.tensors {
      guard let merged = model[entry.base.name], merged.info.dtype == entry.mergedDType,
        merged.info.shape == entry.mergedShape
      else {
        throw SurgeryError(
          .data, "undo.other-merged", "the record is of another merge", file: path,
          tensor: entry.base.name.text, expected: "\(entry.mergedDType) \(entry.mergedShape)",
          found: model[entry.base.name].map { "\($0.info.dtype) \($0.info.shape)" }
            ?? "no such tensor")
      }
    }
    let added = Set(record.added)
    let infos = model.tensors.map { tensor -> TensorInfo? in
      if added.contains(tensor.name) { return nil }
      return entries[tensor.name].map { record.tensors[$0].base } ?? tensor.info
    }
    var (output, places) = try CheckpointPlan.rewriting(
      model, as: infos, to: self.output, form: OutputForm(maximumShardSize: maximumShardSize))
    if output.kind == .folder, let config = record.config { output.replaceConfig(with: config) }
    var copies: [TensorStep] = []
    var restored: [Restoring.Step] = []
    var reports: [TensorReport] = []
    for (tensor, place) in zip(model.tensors, places) {
      var report = TensorReport(tensor.name, .copied, shape: tensor.info.shape)
      if let place, let index = entries[tensor.name] {
        let entry = record.tensors[index]
        restored.append(
          Restoring.Step(
            entry: entry, merged: tensor, place: place,
            merge: entry.prediction == .subtract
              ? try recordedMerge(entry, tensor, place, changes.updates[tensor.name] ?? [], path)
              : nil))
        report.action = .unmerged
        report.reason = "restored bit for bit"
        report.shape = entry.base.shape
      } else if let place {
        copies.append(TensorStep(source: tensor, place: place, dtype: tensor.info.dtype))
      } else {
        report.action = .skipped
        report.reason = "added by the merge"
      }
      reports.append(report)
    }
    if !dryRun {
      let writer = try CheckpointWriter(
        output, replacing: force,
        inputs: model.files.map(\.file.file) + changes.inputs + [reader.file],
        interruption: execution.interruption)
      execution.progress.begin("restoring", total: model.byteCount)
      _ = try RewritePipeline(writer: writer, execution: execution, arithmetic: Arithmetic())
        .run(copies)
      try Restoring(reader: reader, writer: writer, execution: execution).run(restored)
      try writer.commit()
    }
    var report = OperationReport(command: direction.rawValue, modules: reports)
    report.output = dryRun ? nil : self.output
    report.adapters = changes.reports
    report.warnings =
      model.warnings + changes.warnings + changes.unrecordedWarnings
      + output.notesOnSurroundings(of: model)
    report.totals.bytesRead = model.byteCount + Int(reader.file.size)
    report.totals.bytesWritten = dryRun ? 0 : output.byteCount
    report.totals.measure(stopwatch)
    return report
  }

  /// The step that made a merged tensor, with the scales and weights of the record.
  private func recordedMerge(
    _ entry: UndoRecord.Tensor, _ merged: StoredTensor, _ place: PlannedTensor,
    _ changes: [WeightedUpdates], _ path: String
  ) throws(SurgeryError) -> TensorStep {
    var updates = changes.flatMap(\.planned)
    guard updates.count == entry.updates.count else {
      throw SurgeryError(
        .data, "undo.other-adapter", "the adapters are not those of the recorded merge", file: path,
        tensor: merged.name.text, expected: "\(entry.updates.count) changes",
        found: "\(updates.count)", hint: "name the adapters of that merge, in its order")
    }
    for index in updates.indices {
      (updates[index].scale, updates[index].weight) = entry.updates[index]
    }
    return TensorStep(
      source: merged, place: place, dtype: merged.info.dtype, updates: updates,
      storedRows: entry.storedRows)
  }
}
