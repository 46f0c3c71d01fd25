import Adapters
import Checkpoints
import Tensors

/// What becomes of every tensor of a model when adapters are merged or taken out.
struct MergePlan {
  private(set) var output: CheckpointPlan
  /// The steps, in the order of `reports` less what is left out.
  let steps: [TensorStep]
  /// The model's tensor behind each step; `nil` for one that an adapter adds.
  let bases: [StoredTensor?]
  /// One entry for each tensor of the model, then one for each that an adapter adds.
  let reports: [TensorReport]
  private(set) var warnings: [String]
  let adapters: [AdapterReport]
  /// What is written for each tensor, in the order of `reports`.
  let infos: [TensorInfo]
  /// What changes in the model's configuration.
  let configEdit: ConfigEdit?
  /// What the output's layout leaves out or changes beside the tensors.
  let layoutNotes: [String]
  /// The factors of all adapters.
  let factors: [Factor]
  /// Every file that is read.
  let inputs: [InputFile]
  /// The model's configuration as it was, where the output's differs.
  private(set) var originalConfig: String?

  /// Plans the operation; no data is read but configurations.
  ///
  /// - Throws: What opening and resolving adapters throw; `merge.weight`, `merge.quantised`, `merge.conflict`,
  ///   `unmerge.impossible`, `usage.scale-for`.
  init(
    _ request: MergeRequest, model: Checkpoint, limits: ReadLimits
  ) throws(SurgeryError) {
    let changes = try AdapterChanges(request, model: model, limits: limits)
    let planned = try model.tensors.map { (tensor) throws(SurgeryError) in
      try PlannedRewrite(tensor, changes.updates[tensor.name] ?? [], request)
    }
    let additions = try changes.additions.map { (addition) throws(SurgeryError) in
      try PlannedRewrite(adding: addition, request)
    }
    var (output, places) = try CheckpointPlan.rewriting(
      model, as: planned.map(\.info), to: request.output,
      form: OutputForm(maximumShardSize: request.maximumShardSize),
      additions: additions.map(\.info))
    warnings = model.warnings + changes.warnings + changes.selectionWarnings
    configEdit = ConfigEdit(planned, additions, model, request)
    if output.kind == .folder, let configEdit {
      originalConfig = try output.apply(configEdit, of: model)
    }
    warnings += output.leaveOutUnknownHashes() + output.notesOnSurroundings(of: model)
    layoutNotes = Self.layoutNotes(
      output.kind, companions: model.companions.map(\.relativePath),
      configChange: configEdit?.summary)
    self.output = output
    let all = planned + additions
    steps = zip(all, places).compactMap { rewrite, place in place.map { rewrite.step(at: $0) } }
    bases = zip(all, places).compactMap { rewrite, place in place.map { _ in rewrite.base } }
    reports = all.map(\.report)
    infos = all.map(\.info)
    adapters = changes.reports
    factors = changes.factors
    inputs = model.files.map(\.file.file) + changes.inputs
  }

  /// What a layout leaves out or changes beside the tensors, in words.
  static func layoutNotes(
    _ kind: OutputTransaction.Kind, companions: [String], configChange: String?
  ) -> [String] {
    if kind == .folder { return configChange.map { ["config.json: \($0)"] } ?? [] }
    if companions.isEmpty { return [] }
    return [
      "a single file leaves out \(companions.count, counting: "file") beside the tensors: "
        + companions.sorted().listed(limit: 8)
    ]
  }
}

/// What becomes of one tensor.
struct PlannedRewrite {
  /// The model's tensor, unless an adapter adds it.
  let base: StoredTensor?
  let source: StoredTensor
  let info: TensorInfo
  private let updates: [PlannedUpdate]
  private let storedRows: Int?
  private let direction: MergeDirection
  let report: TensorReport

  init(
    _ tensor: StoredTensor, _ changes: [WeightedUpdates], _ request: MergeRequest
  ) throws(SurgeryError) {
    let direction = request.direction
    var source = tensor
    var report = TensorReport(tensor.name, .copied, shape: tensor.info.shape)
    var updates: [PlannedUpdate] = []
    var storedRows: Int?
    for (index, change) in changes.enumerated() {
      if direction == .unmerge, let obstacle = change.updates.obstacleToUnmerging {
        throw SurgeryError(
          .data, "unmerge.impossible", "the change cannot be taken out: \(obstacle)",
          file: request.model, tensor: tensor.name.text,
          hint:
            "--undo with the record of the merge restores it; so does the base; or --exclude the tensor"
        )
      }
      if let reason = change.updates.replacement {
        guard index == 0 || changes[..<index].allSatisfy({ $0.updates.replacement == nil }) else {
          throw SurgeryError(
            .data, "merge.conflict", "two adapters replace the same tensor", file: request.model,
            tensor: tensor.name.text, hint: "merge one of them, or --exclude the tensor")
        }
        guard index == 0 else {
          throw SurgeryError(
            .data, "merge.conflict", "an adapter replaces a tensor that one before it changes",
            file: request.model, tensor: tensor.name.text,
            hint: "name the adapter that replaces it first")
        }
        source = change.updates.source
        report.action = .replaced
        report.reason = reason
      }
      let rows = change.updates.storedRows
      guard storedRows == nil || storedRows == rows || change.updates.updates.isEmpty else {
        throw SurgeryError(
          .data, "merge.conflict", "two adapters see different matrices in the same tensor",
          file: request.model, tensor: tensor.name.text, hint: "merge them one after the other")
      }
      if !change.updates.updates.isEmpty { storedRows = rows }
      updates += change.planned
    }
    report.rank = updates.compactMap(\.update.rank).max()
    if !updates.isEmpty {
      report.action =
        direction == .unmerge ? .unmerged : report.action == .replaced ? .replaced : .merged
    }
    let dtype =
      tensor.info.dtype.isFloatingPoint ? request.dtype ?? tensor.info.dtype : tensor.info.dtype
    if report.action == .copied, dtype != tensor.info.dtype {
      report.action = .converted
      report.reason = "\(tensor.info.dtype) to \(dtype)"
    }
    report.shape = source.info.shape
    base = tensor
    info = try Self.info(tensor.name, dtype, source.info.shape)
    (self.source, self.updates, self.storedRows) = (source, updates, storedRows)
    (self.direction, self.report) = (direction, report)
  }

  /// A tensor that the model does not have.
  init(adding addition: WeightedUpdates, _ request: MergeRequest) throws(SurgeryError) {
    let change = addition.updates
    let stored = change.source.info
    base = nil
    source = change.source
    info = try Self.info(
      change.name, stored.dtype.isFloatingPoint ? request.dtype ?? stored.dtype : stored.dtype,
      stored.shape)
    updates = addition.planned
    storedRows = change.updates.isEmpty ? nil : change.storedRows
    direction = .merge
    report = TensorReport(
      change.name, .replaced, shape: stored.shape, reason: "added by the adapter")
  }

  private static func info(
    _ name: TensorName, _ dtype: DType, _ shape: Shape
  ) throws(SurgeryError) -> TensorInfo {
    guard let info = TensorInfo(name: name, dtype: dtype, shape: shape) else {
      throw SurgeryError(.bug, "bug.tensor-size", "no size of \(shape) \(dtype)")
    }
    return info
  }

  func step(at place: PlannedTensor) -> TensorStep {
    TensorStep(
      source: source, place: place, dtype: info.dtype, updates: updates, direction: direction,
      storedRows: storedRows)
  }
}
