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
    var report = try converted(execution)
    report.input = input
    return report
  }

  private func converted(_ execution: Execution) throws(SurgeryError) -> OperationReport {
    guard concernsAdapter else { return try runOnCheckpoint(execution) }
    guard part == nil else {
      throw SurgeryError(
        .usage, "part.adapter", "the conversion of one adapter is not divided", file: input,
        hint: "give several adapters: --part divides the list")
    }
    return try runOnAdapter(execution)
  }

  /// Whether the input is to be read as an adapter: where a dialect or another word of adapters is asked for.
  private var concernsAdapter: Bool {
    if asLowRank || adapterOptions.dialect != nil { return true }
    switch dialect ?? Dialect(containerOf: output) {
    // As a checkpoint it would lose what its header says of the adapter.
    case nil: return FileFormat(extensionOf: input) == .compact && Adapter.isAdapter(at: input)
    case .gguf, .compact: return Adapter.isAdapter(at: input)
    case .some: return true
    }
  }

  private func runOnCheckpoint(_ execution: Execution) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let source = try Checkpoint(opening: input)
    let (infos, reports) = try plannedTensors(of: source)
    let (plan, places) = try CheckpointPlan.rewriting(
      source, as: infos, to: output, form: form, metadata: edited)
    if let part {
      return try run(part, of: source, as: infos, reports, plan, places, execution)
    }
    var finished = reports
    if !dryRun {
      let writer = try CheckpointWriter(
        plan, replacing: force, inputs: source.files.map(\.file.file),
        interruption: execution.interruption)
      execution.progress.begin("converting", total: source.byteCount)
      var steps: [TensorStep] = []
      var positions: [Int] = []
      for (index, place) in places.enumerated() {
        guard let place, let info = infos[index] else { continue }
        steps.append(TensorStep(source: source.tensors[index], place: place, dtype: info.dtype))
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
    report.totals.bytesRead = source.byteCount
    report.totals.bytesWritten = dryRun ? 0 : plan.byteCount
    report.totals.seconds = stopwatch.seconds
    report.totals.peakMemory = Stopwatch.peakMemory
    return report
  }

  /// Converts the tensors of one part.
  private func run(
    _ part: Part, of source: Checkpoint, as infos: [TensorInfo?], _ reports: [TensorReport],
    _ plan: CheckpointPlan, _ places: [PlannedTensor?], _ execution: Execution
  ) throws(SurgeryError) -> OperationReport {
    var request = self
    (request.input, request.output) = ("", "")
    (request.force, request.dryRun, request.part) = (false, false, nil)
    var divided = DividedRewriting(
      command: "convert", options: try ManifestJSON.text(request), source: source, infos: infos,
      steps: source.tensors.indices.map { index in
        guard let place = places[index], let info = infos[index] else { return nil }
        return TensorStep(source: source.tensors[index], place: place, dtype: info.dtype)
      }, reports: reports, output: plan, form: form,
      arithmetic: Arithmetic(allowOverflow: allowOverflow),
      inputs: source.files.map(\.file.file))
    divided.warnings = source.warnings
    divided.metadata = edited
    return try divided.run(part, to: output, replacing: force, dryRun: dryRun, execution)
  }

  private func plannedTensors(
    of source: Checkpoint
  ) throws(SurgeryError) -> (infos: [TensorInfo?], reports: [TensorReport]) {
    let matcher = try selection.matcher()
    let rename = try renamings.map { (renaming) throws(SurgeryError) in try renaming.compiled() }
    var infos: [TensorInfo?] = []
    var reports: [TensorReport] = []
    var origins: [TensorName: TensorName] = [:]
    for tensor in source.tensors {
      guard matcher.selects(tensor.name) else {
        infos.append(nil)
        reports.append(
          TensorReport(tensor.name, .skipped, shape: tensor.info.shape, reason: "not selected"))
        continue
      }
      let name = TensorName(rename.reduce(tensor.name.text) { $1($0) })
      if let other = origins.updateValue(tensor.name, forKey: name) {
        throw SurgeryError(
          .data, "convert.name", "two tensors would get the same name", file: input,
          tensor: name.text, found: "\(other) and \(tensor.name)", hint: "change --rename")
      }
      let dtype = storageDType(for: tensor.info.dtype)
      guard let info = TensorInfo(name: name, dtype: dtype, shape: tensor.info.shape) else {
        throw SurgeryError(
          .unsupported, "convert.dtype", "the tensor cannot be stored in this dtype", file: input,
          tensor: tensor.name.text, found: dtype.name)
      }
      infos.append(info)
      let isSame = dtype == tensor.info.dtype
      reports.append(
        TensorReport(
          tensor.name, isSame ? .copied : .converted, shape: tensor.info.shape,
          reason: isSame ? nil : "\(tensor.info.dtype) to \(dtype)"))
    }
    return (infos, reports)
  }

  private func storageDType(for stored: DType) -> DType {
    guard let dtype, stored.isNumeric, dtype.isNumeric,
      dtype.isFloatingPoint == stored.isFloatingPoint
    else { return stored }
    return dtype
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
