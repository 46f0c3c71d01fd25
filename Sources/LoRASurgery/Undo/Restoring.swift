import Checkpoints
import LinearAlgebra
import Tensors

/// Writes the base's tensors again from merged ones and a record.
struct Restoring {
  /// One tensor to restore.
  struct Step: Sendable {
    var entry: UndoRecord.Tensor
    var merged: StoredTensor
    var place: PlannedTensor
    /// The merge that is taken back, where the record predicts by subtracting.
    var merge: TensorStep?
  }

  let reader: UndoReader
  let writer: CheckpointWriter
  let execution: Execution

  /// Pages that one worker takes at a time: as many as make loading the factors cheap.
  private static let pagesPerPiece = 128

  /// Restores every tensor.
  ///
  /// - Throws: `undo.…`, and what reading and writing throw.
  func run(_ steps: [Step]) throws(SurgeryError) {
    let pieces = steps.indices.flatMap { index in
      stride(from: 0, to: steps[index].entry.pageCount, by: Self.pagesPerPiece).map {
        (index, $0..<min(steps[index].entry.pageCount, $0 + Self.pagesPerPiece))
      }
    }
    let sequential = steps.contains { writer.isSequential(file: $0.place.file) }
    try execution.runWriting(
      steps: pieces.count, isSequential: sequential, makeState: { () }
    ) { (_, stage, index) throws(SurgeryError) in
      let (step, pages) = (steps[pieces[index].0], pieces[index].1)
      do throws(SurgeryError) { try restore(pages, of: step, through: stage) } catch {
        throw step.merged.explained(error)
      }
    }
  }

  private func restore(
    _ pages: Range<Int>, of step: Step, through stage: WriteStage
  ) throws(SurgeryError) {
    let entry = step.entry
    guard let size = entry.base.dtype.bytesPerElement else {
      throw ResidualCode.damaged.inFile(reader.file.path)
    }
    let predictor =
      entry.prediction == .subtract ? try step.merge.map(Predictor.init) : nil
    var source = try step.merged.source.makeReader()
    let columns = max(1, entry.base.shape.elementCount / entry.storedRows)
    for page in pages {
      try execution.interruption.check()
      let elements = entry.elements(of: page)
      var merged: [UInt8]?
      if entry.prediction != .nothing {
        var bytes = [UInt8](repeating: 0, count: elements.count * size)
        try bytes.withMutableRawSpan(0..<bytes.count) { (target) throws(SurgeryError) in
          try source.read(at: elements.lowerBound * size, into: &target)
        }
        merged = bytes
      }
      let prediction = merged.map { merged in
        predictor?.predict(
          merged, rows: elements.lowerBound / columns..<elements.upperBound / columns) ?? merged
      }
      let base = try reader.page(page, of: entry, merged: merged, prediction: prediction)
      try unsafe writer.write(
        base.span.bytes, to: step.place, at: elements.lowerBound * size, through: stage)
      execution.progress.advance(by: base.count)
    }
  }
}
