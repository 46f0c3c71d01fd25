import Adapters
import Checkpoints
import Tensors

extension ExtractRequest {
  /// Extracts the tensors of one part.
  ///
  /// - Throws: `part.budget` where ranks depend on all tensors together, and what extracting throws.
  func run(
    _ part: Part, of plan: ExtractPlan, base: Checkpoint, tuned: Checkpoint,
    _ execution: Execution
  ) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    guard plan.budget == nil else {
      throw SurgeryError(
        .usage, "part.budget", "a budget is shared by all tensors, so that it cannot be divided",
        hint: "--rank, --energy or --max-error choose each tensor's rank by itself")
    }
    let positions = part.share(
      of: plan.pairs.map { $0.base.info.byteCount + $0.tuned.info.byteCount })
    var own = plan
    own.keep(positions)
    let ownBytes = own.pairs.reduce(0) {
      $0 + $1.base.info.byteCount + $1.tuned.info.byteCount
    }
    let inputs = (base.files + tuned.files).map(\.file.file)
    var report: OperationReport
    if dryRun {
      report = OperationReport(
        command: "extract", modules: own.pairs.map { ExtractedTensor(planned: $0).report })
      report.part = PartReport(part: part, wasDone: false)
      report.totals.bytesRead = ownBytes
    } else {
      var manifest = PieceManifest(
        command: "extract", part: part, options: try ManifestJSON.text(withoutPlaces),
        inputs: try InputFingerprint.all(of: inputs, execution),
        inputBytes: base.byteCount + tuned.byteCount, positions: plan.pairs.count,
        warnings: base.warnings + tuned.warnings)
      manifest.ownBytes = ownBytes
      manifest.extraction = .init(
        baseConfig: plan.baseConfig?.text(), unpaired: plan.unpaired)
      let path = try PieceDestination(output: output, part: part, creating: true).path
      report = try manifest.report(at: path, replacing: force) { () throws(SurgeryError) in
        try OutputTransaction.checkDestination(
          path, kind: .file, replacing: force, inputs: inputs)
        let extracted = try extract(own, spool: try SpoolFile(beside: path), execution)
        try write(
          extracted, of: own, at: positions, manifest, to: path, inputs: inputs, execution)
      }
    }
    report.totals.measure(stopwatch)
    return report
  }

  private func write(
    _ extracted: [ExtractedTensor], of own: ExtractPlan, at positions: [Int],
    _ manifest: PieceManifest, to path: String, inputs: [InputFile], _ execution: Execution
  ) throws(SurgeryError) {
    var plan = PiecePlan(manifest)
    var contents: [(place: PlannedTensor, tensor: StoredTensor)] = []
    for ((tensor, pair), position) in zip(zip(extracted, own.pairs), positions) {
      var parts: [(role: String, tensor: StoredTensor)] = []
      var entry = PieceManifest.Entry(position: position, report: tensor.report)
      entry.warning = tensor.warning
      switch tensor.content {
      case .factors(let factors, let form):
        parts = [("left", factors.left), ("right", factors.right)]
        entry.extracted = .init(
          content: .factors, form: .init(form),
          isTransposed: form == .linear && own.isTransposed(tensor.report.tensor),
          base: try .init(of: pair.base))
      case .stack(let factors, let stack):
        parts = [("left", factors.left), ("right", factors.right)]
        entry.extracted = .init(
          content: .factors, form: .experts, isTransposed: stack.isTransposed,
          base: try .init(of: pair.base))
      case .full(let stored):
        parts = [("full", stored)]
        entry.extracted = .init(content: .full, base: try .init(of: pair.base))
      case .difference(let stored):
        parts = [("difference", stored)]
        entry.extracted = .init(content: .difference, base: try .init(of: pair.base))
      case nil: break
      }
      plan.manifest.entries.append(entry)
      for part in parts {
        contents.append(
          (
            try plan.add(
              Piece.name(position, part.role), part.tensor.info.dtype, part.tensor.info.shape),
            part.tensor
          ))
      }
    }
    let writer = try CheckpointWriter(
      try plan.output(to: path, shards: []), replacing: force, inputs: inputs,
      interruption: execution.interruption)
    var scratch = [UInt8](repeating: 0, count: 1 << 20)
    let stage = WriteStage()
    for (place, tensor) in contents {
      try writer.copy(
        tensor, bytes: 0..<tensor.info.byteCount, to: place, scratch: &scratch, through: stage)
    }
    try stage.flush()
    try writer.commit()
  }

  /// The request without what may differ between machines, and without what the result does not depend on.
  private var withoutPlaces: Self {
    var request = self
    (request.base, request.tuned, request.output) = ("", "", "")
    (request.force, request.dryRun, request.part) = (false, false, nil)
    return request
  }
}

extension PieceManifest.Extracted.Form {
  init(_ form: LowRank.Form) {
    switch form {
    case .linear: self = .linear
    case .embedding: self = .embedding
    case .convolution: self = .convolution
    }
  }

  /// The form of a tensor of this shape; `nil` for a stack.
  func form(of shape: Shape) -> LowRank.Form? {
    switch self {
    case .linear: .linear
    case .embedding: .embedding
    case .convolution: .convolution(kernel: Array(shape.dimensions.dropFirst(2)))
    case .experts: nil
    }
  }
}
