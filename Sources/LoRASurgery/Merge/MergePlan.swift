import Adapters
import Checkpoints
import Tensors

/// What becomes of every tensor of a model when adapters are merged or taken out.
struct MergePlan {
  let output: CheckpointPlan
  let steps: [TensorStep]
  /// One entry for each tensor of the model.
  let reports: [TensorReport]
  let warnings: [String]
  /// Every file that is read.
  let inputs: [InputFile]

  init(_ request: MergeRequest, model: Checkpoint) throws(SurgeryError) {
    let matcher = try request.selection.matcher()
    var warnings = model.warnings
    var inputs = model.files.map(\.file.file)
    var updates: [TensorName: [(TensorUpdates, weight: Double)]] = [:]
    for weighted in request.adapters {
      guard weighted.weight.isFinite else {
        throw SurgeryError(
          .usage, "merge.weight", "the weight of an adapter is not finite", file: weighted.path,
          found: "\(weighted.weight)")
      }
      let adapter = try Adapter(opening: weighted.path, options: request.adapterOptions)
      let resolved = try adapter.resolved(against: model, options: request.adapterOptions)
      warnings += resolved.warnings
      inputs += adapter.inputs
      for tensor in resolved.tensors where matcher.selects(tensor.name) {
        updates[tensor.name, default: []].append((tensor, weighted.weight))
      }
    }
    let planned = try model.tensors.map { (tensor) throws(SurgeryError) in
      try PlannedRewrite(tensor, updates[tensor.name] ?? [], request)
    }
    let (output, places) = try CheckpointPlan.rewriting(
      model, as: planned.map(\.info), to: request.output,
      form: OutputForm(maximumShardSize: request.maximumShardSize))
    self.output = output
    steps = zip(planned, places).compactMap { rewrite, place in
      place.map { rewrite.step(at: $0) }
    }
    reports = planned.map(\.report)
    self.warnings = warnings
    self.inputs = inputs
  }
}

/// What becomes of one tensor.
private struct PlannedRewrite {
  let tensor: StoredTensor
  let source: StoredTensor
  let info: TensorInfo
  var updates: [PlannedUpdate] = []
  var storedRows: Int?
  let direction: TensorStep.Direction
  private(set) var report: TensorReport

  init(
    _ tensor: StoredTensor, _ changes: [(TensorUpdates, weight: Double)], _ request: MergeRequest
  ) throws(SurgeryError) {
    self.tensor = tensor
    direction = request.direction == .merge ? .merge : .unmerge
    var source = tensor
    report = TensorReport(tensor.name, .copied, shape: tensor.info.shape)
    for (change, weight) in direction == .merge ? changes : changes.reversed() {
      if direction == .unmerge, let obstacle = change.obstacleToUnmerging {
        throw SurgeryError(
          .data, "unmerge.impossible", "the change cannot be taken out: \(obstacle)",
          file: request.model, tensor: tensor.name.text,
          hint: "start from the base, or --exclude the tensor")
      }
      if let reason = change.replacement {
        source = change.source
        report.action = .replaced
        report.reason = reason
      }
      storedRows = change.storedRows
      for update in change.updates {
        updates.append(
          PlannedUpdate(
            update: update.update, scale: update.scale, rows: update.rows, weight: weight,
            isTransposed: change.isTransposed))
        report.rank = max(report.rank ?? 0, update.update.rank ?? 0)
      }
    }
    if !updates.isEmpty { report.action = direction == .merge ? .merged : .unmerged }
    if report.rank == 0 { report.rank = nil }
    self.source = source
    let isChanged = report.action != .copied
    let dtype =
      tensor.info.dtype.isFloatingPoint ? request.dtype ?? tensor.info.dtype : tensor.info.dtype
    guard let info = TensorInfo(name: tensor.name, dtype: dtype, shape: source.info.shape) else {
      throw SurgeryError(.bug, "bug.tensor-size", "no size of \(source.info.shape) \(dtype)")
    }
    if !isChanged, dtype != tensor.info.dtype { report.action = .converted }
    self.info = info
  }

  func step(at place: PlannedTensor) -> TensorStep {
    TensorStep(
      source: source, place: place, dtype: info.dtype, updates: updates, direction: direction,
      storedRows: storedRows)
  }
}
