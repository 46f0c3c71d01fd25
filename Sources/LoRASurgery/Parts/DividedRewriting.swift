import Checkpoints
import LinearAlgebra
import Tensors

/// A rewriting of a checkpoint, planned whole, of which a part is done.
struct DividedRewriting {
  let command: String
  /// The request as JSON, without what differs from machine to machine.
  let options: String
  let source: Checkpoint
  /// What is written for each tensor of the source, then the additions; `nil` leaves a tensor out.
  let infos: [TensorInfo?]
  let steps: [TensorStep?]
  let reports: [TensorReport]
  /// The layout that the part's own output asks for; its files are written where they belong to a part completely.
  let output: CheckpointPlan
  let form: OutputForm
  let arithmetic: Arithmetic
  let inputs: [InputFile]
  var adapters: [AdapterReport]?
  var warnings: [String] = []
  /// The changed `config.json`, and the changes in words.
  var config: (text: String, change: String)?
  /// Changes a file's metadata.
  var metadata: ([String: String]) -> [String: String] = { $0 }

  /// Does a part of the work, unless its piece is there.
  func run(
    _ part: Part, to output: String, replacing: Bool, dryRun: Bool, _ execution: Execution
  ) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    if let other = self.output.files.first(where: { !Self.formats.contains($0.format) }) {
      throw SurgeryError(
        .unsupported, "part.format", "results in this format are not made in parts", file: output,
        expected: "safetensors, npz or npy", found: other.format.rawValue,
        hint: "leave --part out")
    }
    let share = share(of: part)
    var report: OperationReport
    if dryRun {
      report = OperationReport(command: command, modules: share.positions.map { reports[$0] })
      report.part = PartReport(part: part, wasDone: false)
      report.adapters = adapters
      report.warnings = warnings
      report.totals.bytesRead = share.positions.reduce(0) {
        $0 + (steps[$1]?.source.info.byteCount ?? 0)
      }
    } else {
      let manifest = try manifest(of: part, execution)
      let path = try PieceDestination(output: output, part: part, creating: true).path
      report = try manifest.report(at: path, replacing: replacing) { () throws(SurgeryError) in
        try write(share, manifest, to: path, replacing: replacing, execution)
      }
    }
    report.totals.measure(stopwatch)
    return report
  }

  /// Formats that hold tensors and texts, and nothing else that a piece would have to carry.
  private static let formats: [FileFormat] = [.safetensors, .npz, .npy]

  private func manifest(
    of part: Part, _ execution: Execution
  ) throws(SurgeryError) -> PieceManifest {
    var manifest = PieceManifest(
      command: command, part: part, options: options,
      inputs: try InputFingerprint.all(of: inputs, execution), inputBytes: source.byteCount,
      positions: reports.count, warnings: warnings)
    manifest.rewriting = .init(
      layout: source.layout,
      files: source.files.map { relativePath, file in
        .init(
          relativePath: relativePath, format: file.format, metadata: metadata(file.metadata))
      }, companions: source.companions.map(\.relativePath),
      format: output.files.first?.format ?? .safetensors, form: form, adapters: adapters,
      configChange: config?.change)
    return manifest
  }

  /// A part's tensors, and the files of the output that it has completely.
  private struct Share {
    var positions: [Int]
    var files: [Int]
  }

  /// Divides by complete files of a sharded output where that is nearly as even as dividing by tensors: then nothing has to
  /// be copied when the parts are gathered.
  private func share(of part: Part) -> Share {
    let costs = steps.indices.map { index in
      (steps[index]?.source.info.byteCount ?? 0) + (infos[index]?.byteCount ?? 0)
    }
    var fileCosts = [Int](repeating: 0, count: output.files.count)
    for (step, cost) in zip(steps, costs) { if let step { fileCosts[step.place.file] += cost } }
    let owners = Part.owners(of: fileCosts, parts: part.count)
    var loads = [Int](repeating: 0, count: part.count)
    for (owner, cost) in zip(owners, fileCosts) { loads[owner] += cost }
    let even = costs.reduce(0, +) / part.count
    guard output.kind == .folder, output.files.count > 1,
      output.files.allSatisfy({ $0.format == .safetensors }),
      loads.max() ?? 0 <= even + even / Self.tolerableUnevenness
    else { return Share(positions: part.share(of: costs), files: []) }
    let positions = steps.indices.filter { index in
      (steps[index].map { owners[$0.place.file] } ?? 0) == part.number - 1
    }
    return Share(
      positions: positions,
      files: fileCosts.indices.filter {
        owners[$0] == part.number - 1 && !output.files[$0].tensors.isEmpty
      })
  }

  /// The slowest part may have an eighth more to do than the mean; copying when gathering costs more.
  private static let tolerableUnevenness = 8

  private func write(
    _ share: Share, _ manifest: PieceManifest, to path: String, replacing: Bool,
    _ execution: Execution
  ) throws(SurgeryError) {
    var plan = PiecePlan(manifest)
    var own: [TensorStep] = []
    var entryOfStep: [Int] = []
    let sourceFiles = source.files.enumerated().flatMap { index, entry in
      [Int](repeating: index, count: entry.file.tensors.count)
    }
    for position in share.positions {
      var entry = PieceManifest.Entry(position: position, report: reports[position])
      if var step = steps[position], let info = infos[position] {
        entry.rewritten = .init(
          name: info.name, file: position < sourceFiles.count ? sourceFiles[position] : nil,
          shard: nil, isChanged: !step.updates.isEmpty)
        if let file = share.files.firstIndex(of: step.place.file) {
          let planned = output.files[step.place.file]
          entry.rewritten?.shard = .init(
            path: planned.relativePath, name: planned.tensors[step.place.tensor].name)
          step.place.file = file + 1
        } else {
          step.place = try plan.add(Piece.name(position, "tensor"), info.dtype, info.shape)
        }
        own.append(step)
        entryOfStep.append(plan.manifest.entries.count)
        plan.manifest.ownBytes += step.source.info.byteCount
      }
      plan.manifest.entries.append(entry)
    }
    let companions = manifest.part.number == 1 ? try companionBytes() : []
    let places = try companions.map { (companion) throws(SurgeryError) in
      guard let shape = Shape([companion.bytes.count]) else { throw SurgeryError.tooLarge(path) }
      return try plan.add(Piece.name(companion.index, "companion"), .u8, shape)
    }
    let sums: PlannedTensor? =
      share.positions.isEmpty
      ? nil
      : try plan.add(
        Piece.sums, .f64, Shape(rows: share.positions.count, columns: Piece.sumCount))
    let writer = try CheckpointWriter(
      try plan.output(to: path, shards: share.files.map { output.files[$0] }),
      replacing: replacing, inputs: inputs, interruption: execution.interruption)
    execution.progress.begin("\(command), part \(manifest.part)", total: plan.manifest.ownBytes)
    let outcomes = try RewritePipeline(
      writer: writer, execution: execution, arithmetic: arithmetic
    ).run(own)
    let stage = WriteStage()
    for (companion, place) in zip(companions, places) {
      try unsafe writer.write(companion.bytes.span.bytes, to: place, at: 0, through: stage)
    }
    if let sums {
      var numbers = [Double](repeating: 0, count: share.positions.count * Piece.sumCount)
      for (entry, outcome) in zip(entryOfStep, outcomes) {
        let start = entry * Piece.sumCount
        numbers.replaceSubrange(start..<start + Piece.sumCount, with: outcome.sums.stored)
      }
      let bytes = numbers.narrowed(to: .f64)
      try unsafe writer.write(bytes.span.bytes, to: sums, at: 0, through: stage)
    }
    try stage.flush()
    try writer.commit()
  }

  /// The files beside the tensors, which the first part carries; indices are made anew.
  private func companionBytes() throws(SurgeryError) -> [(index: Int, bytes: [UInt8])] {
    var found: [(index: Int, bytes: [UInt8])] = []
    for (index, companion) in source.companions.enumerated()
    where !companion.relativePath.hasSuffix(".index.json") {
      if companion.relativePath == "config.json", let config {
        found.append((index, Array(config.text.utf8)))
        continue
      }
      let file = try InputFile(companion.path)
      found.append((index, try file.bytes(at: 0, count: Int(clamping: file.size))))
    }
    return found
  }
}

extension SurgeryError {
  fileprivate static func tooLarge(_ path: String) -> Self {
    Self(.bug, "bug.companion-size", "a file beside the tensors has no size", file: path)
  }
}
