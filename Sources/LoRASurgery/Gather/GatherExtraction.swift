import Adapters
import Checkpoints
import Tensors

extension GatherRequest {
  /// Lays the extracted tensors of all parts out as one adapter.
  func gatherExtraction(
    _ pieces: PieceSet, _ origin: PieceManifest.Extraction, _ execution: Execution
  ) throws(SurgeryError) -> OperationReport {
    var request = try pieces.request(ExtractRequest.self)
    (request.output, request.force) = (output, force)
    let baseConfig: JSONValue?
    do throws(SurgeryError) {
      baseConfig = try origin.baseConfig.map { (text) throws(SurgeryError) in
        try JSONValue(parsing: Array(text.utf8))
      }
    } catch {
      throw Piece.damaged(pieces.pieces[0].path, "its configuration of the base is no JSON")
    }
    var extracted: [ExtractedTensor] = []
    var transposed = Set<TensorName>()
    var samples: [BaseFingerprint.Sample] = []
    for (piece, entry, _) in try pieces.entries() {
      extracted.append(try ExtractedTensor(entry, of: piece))
      if entry.extracted?.isTransposed == true { transposed.insert(entry.report.tensor) }
      if let sample = entry.extracted?.base { samples.append(sample) }
    }
    var report = OperationReport(
      command: "gather", extracted, unpaired: origin.unpaired, warnings: pieces.manifest.warnings)
    try ExtractRequest.checkDifference(extracted, tuned: nil)
    if dryRun { return report }
    try request.write(
      extracted, baseConfig: baseConfig, fingerprint: BaseFingerprint(choosingFrom: samples),
      isTransposed: { transposed.contains($0) },
      inputs: pieces.inputs, into: &report, execution)
    return report
  }
}

extension ExtractedTensor {
  /// What a piece holds of a tensor.
  fileprivate init(_ entry: PieceManifest.Entry, of piece: Piece) throws(SurgeryError) {
    self.init(entry.report)
    warning = entry.warning
    guard let kept = entry.extracted else { return }
    switch kept.content {
    case .factors:
      let factors = StoredFactors(
        left: try piece.tensor(entry.position, "left"),
        right: try piece.tensor(entry.position, "right"))
      if let form = (kept.form ?? .linear).form(of: entry.report.shape) {
        content = .factors(factors, form)
      } else if let stack = ExpertStack(entry.report.shape, isTransposed: kept.isTransposed) {
        content = .stack(factors, stack)
      }
    case .full:
      content = .full(try piece.tensor(entry.position, "full", as: entry.report.tensor))
    case .difference:
      content = .difference(try piece.tensor(entry.position, "difference"))
    }
  }
}
