import Adapters
import Checkpoints
import Tensors

extension GatherRequest {
  /// Lays the rewritten tensors of all parts out as one checkpoint.
  func gatherRewriting(
    _ pieces: PieceSet, _ origin: PieceManifest.Rewriting, _ execution: Execution
  ) throws(SurgeryError) -> OperationReport {
    let entries = try pieces.entries()
    let result = try GatheredCheckpoint(entries.map { ($0.piece, $0.entry) }, origin)
    var (plan, places) = try CheckpointPlan.rewriting(
      result.checkpoint, as: result.checkpoint.tensors.map(\.info), to: output, form: origin.form,
      additions: result.additions.map(\.info))
    // Conversion depends on what a container can hold; merging does not.
    if pieces.manifest.command == "convert", let format = plan.files.first?.format,
      format != origin.format
    {
      throw SurgeryError(
        .usage, "part.format", "the parts were made for another format", file: output,
        expected: origin.format.rawValue, found: format.rawValue,
        hint: "name the output accordingly, or make the parts with --to \(format.rawValue)")
    }
    // The parts have said so.
    _ = plan.dropUnknownHashes()
    var report = OperationReport(command: "gather", modules: entries.map(\.report))
    report.adapters = origin.adapters
    report.warnings = pieces.manifest.warnings
    if let direction = MergeDirection(rawValue: pieces.manifest.command) {
      report.warnings += MergePlan.layoutNotes(
        plan.kind, companions: origin.companions, configChange: origin.configChange)
      report.warnings += report.mergeWarnings(direction)
    } else {
      report.warnings += plan.metadataNotes
    }
    report.totals.bytesWritten = dryRun ? 0 : plan.byteCount
    if dryRun { return report }
    try plan.takeCompanions(origin.companions, from: pieces.pieces[0])
    let positions = plan.linkShards(of: pieces.pieces)
    let writer = try CheckpointWriter(
      plan, replacing: force, inputs: pieces.inputs, interruption: execution.interruption)
    execution.progress.begin("gathering", total: plan.byteCount)
    let tensors = result.checkpoint.tensors + result.additions
    let steps = zip(tensors, places).compactMap { tensor, place -> TensorStep? in
      guard var place, let file = positions[place.file] else { return nil }
      place.file = file
      return TensorStep(source: tensor, place: place, dtype: tensor.info.dtype)
    }
    _ = try RewritePipeline(writer: writer, execution: execution, arithmetic: Arithmetic())
      .run(steps)
    try writer.commit()
    report.output = output
    return report
  }
}

/// The result of a rewriting as a checkpoint whose tensors lie in the pieces.
private struct GatheredCheckpoint {
  let checkpoint: Checkpoint
  /// Tensors that the source did not have.
  let additions: [StoredTensor]

  init(
    _ entries: [(piece: Piece, entry: PieceManifest.Entry)], _ origin: PieceManifest.Rewriting
  ) throws(SurgeryError) {
    var tensors = [[StoredTensor]](repeating: [], count: origin.files.count)
    var additions: [StoredTensor] = []
    for (piece, entry) in entries {
      guard let place = entry.rewritten else { continue }
      let tensor = try piece.rewritten(entry, place)
      if let file = place.file { tensors[file].append(tensor) } else { additions.append(tensor) }
    }
    self.additions = additions
    let own = entries.first.map { $0.piece.files[0] }
    checkpoint = try Checkpoint(
      path: "the parts", layout: origin.layout,
      files: zip(origin.files, tensors).compactMap { file, tensors in
        own.map {
          (
            file.relativePath,
            TensorFile(file: $0, format: file.format, tensors: tensors, metadata: file.metadata)
          )
        }
      },
      companions: origin.companions.map { .init(relativePath: $0, path: $0) }, config: nil)
  }
}

extension CheckpointPlan {
  /// Takes the bytes of the files beside the tensors from the first part.
  fileprivate mutating func takeCompanions(
    _ companions: [String], from piece: Piece
  ) throws(SurgeryError) {
    for index in extras.indices {
      guard case .copy = extras[index].content,
        let companion = companions.firstIndex(of: extras[index].relativePath)
      else { continue }
      extras[index].content = .bytes(try piece.tensor(companion, "companion").bytes())
    }
  }

  /// Takes files that a piece holds just as they are planned out of the plan and links them instead.
  ///
  /// - Returns: The new position of each file that is left.
  fileprivate mutating func linkShards(of pieces: [Piece]) -> [Int: Int] {
    var newPositions: [Int: Int] = [:]
    var left: [TensorFilePlan] = []
    for (position, planned) in files.enumerated() {
      let shard = pieces.lazy.compactMap { $0.shards[planned.relativePath] }.first
      if kind == .folder, let shard, shard.isWritten(as: planned) {
        extras.append(Extra(relativePath: planned.relativePath, content: .link(to: shard.file)))
      } else {
        newPositions[position] = left.count
        left.append(planned)
      }
    }
    files = left
    return newPositions
  }
}

extension TensorFile {
  /// Whether the file has the bytes that writing the plan would give, whatever order the plan has: the writer sorts.
  fileprivate func isWritten(as plan: TensorFilePlan) -> Bool {
    format == plan.format && metadata == plan.metadata
      && tensors.map(\.info).sorted { $0.name < $1.name }
        == plan.tensors.sorted { $0.name < $1.name }
  }
}
