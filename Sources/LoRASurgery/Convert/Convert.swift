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
    guard concernsAdapter(execution.limits) else { return try runOnCheckpoint(execution) }
    guard part == nil else {
      throw SurgeryError(
        .usage, "part.adapter", "the conversion of one adapter is not divided", file: input,
        hint: "give several adapters: --part divides the list")
    }
    return try runOnAdapter(execution)
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
    try dtype.checkedForTensors()
    let stopwatch = Stopwatch()
    let source = try Checkpoint(opening: input, limits: execution.limits)
    let format = try form.format(of: output, from: source)
    let conversions = try TensorConversion.all(of: source, for: self, into: format)
    var (plan, places) = try CheckpointPlan.rewriting(
      source, as: conversions.map(\.info), to: output, form: form, metadata: edited)
    let warnings =
      source.warnings + plan.leaveOutUnknownHashes() + plan.lostConfiguration(of: source)
      + plan.notesOnSurroundings(of: source)
    if let part { return try run(part, of: source, conversions, plan, places, warnings, execution) }
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
    report.warnings = warnings + plan.metadataNotes
    report.totals.bytesRead = source.byteCount
    report.totals.bytesWritten = dryRun ? 0 : plan.byteCount
    report.totals.measure(stopwatch)
    return report
  }

  /// Converts the tensors of one part.
  private func run(
    _ part: Part, of source: Checkpoint, _ conversions: [TensorConversion],
    _ plan: CheckpointPlan, _ places: [PlannedTensor?], _ warnings: [String],
    _ execution: Execution
  ) throws(SurgeryError) -> OperationReport {
    var request = self
    (request.input, request.output) = ("", "")
    (request.force, request.dryRun, request.part) = (false, false, nil)
    var divided = DividedRewriting(
      command: "convert", options: try ManifestJSON.text(request), source: source,
      infos: conversions.map(\.info),
      steps: zip(conversions, places).map { conversion, place in
        guard let place, let info = conversion.info else { return nil }
        return TensorStep(source: conversion.source, place: place, dtype: info.dtype)
      }, reports: conversions.map(\.report), output: plan, form: form,
      arithmetic: Arithmetic(allowOverflow: allowOverflow),
      inputs: source.files.map(\.file.file))
    divided.warnings = warnings
    divided.metadata = edited
    return try divided.run(part, to: output, replacing: force, dryRun: dryRun, execution)
  }

  private func edited(_ old: [String: String]) -> [String: String] {
    old.filter { !droppedMetadata.contains($0.key) }.merging(metadata) { $1 }
  }
}

extension CheckpointPlan {
  /// Warns of an adapter's configuration that a single file has no place for.
  func lostConfiguration(of source: Checkpoint) -> [String] {
    let name = "adapter_config.json"
    guard kind == .file, source.companions.contains(where: { $0.relativePath == name }) else {
      return []
    }
    return [
      "\(name), which says how the adapter is scaled, is left behind; --to peft writes it into the file"
    ]
  }

  /// Leaves out hashes of the tensors that would not be true of the output.
  ///
  /// - Returns: What to tell the user.
  mutating func leaveOutUnknownHashes() -> [String] {
    let hashes = dropUnknownHashes()
    if hashes.isEmpty { return [] }
    return ["metadata: \(hashes.joined(separator: ", ")) left out, for they are not computed here"]
  }

  /// What the output cannot hold of the metadata, in words.
  var metadataNotes: [String] {
    guard kind == .file, let file = files.first, file.format == .npy, !file.metadata.isEmpty else {
      return []
    }
    let keys = file.metadata.keys.sorted().joined(separator: ", ")
    return ["an npy file holds no metadata; left out: \(keys)"]
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
