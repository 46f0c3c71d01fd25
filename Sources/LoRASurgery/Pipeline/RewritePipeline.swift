import Checkpoints
import LinearAlgebra
import Synchronization
import Tensors

/// Streams tensors from inputs to an output: copied, converted, or changed by updates.
///
/// Big tensors are cut into pieces, so that all workers stay busy to the end; every piece goes through the same loop of
/// read, widen, update, round and write, in blocks that stay in cache.
struct RewritePipeline {
  let writer: CheckpointWriter
  let execution: Execution
  let precision: Precision
  let allowOverflow: Bool

  /// Bytes of one piece of a tensor: enough to make loading the factors cheap, little enough to share out.
  private static let pieceBytes = 32 << 20

  /// Some rows of one step's tensor.
  private struct Piece: Sendable {
    var step: Int
    /// Rows for changed tensors; bytes for copied ones.
    var range: Range<Int>
  }

  /// Runs every step and returns what each found, in order.
  ///
  /// - Throws: What reading and writing throw; `dtype.overflow` where a result does not fit its dtype.
  func run(_ steps: [TensorStep]) throws(SurgeryError) -> [StepOutcome] {
    let pieces = steps.indices.flatMap { Self.pieces(of: steps[$0], index: $0, writer: writer) }
    let sequential = pieces.contains { writer.isSequential(file: steps[$0.step].place.file) }
    let outcomes = Mutex([StepOutcome](repeating: StepOutcome(), count: steps.count))
    let workers = Workers(count: sequential ? 1 : execution.jobs)
    try workers.run(
      steps: pieces.count, interruption: execution.interruption, makeState: { CopyScratch() }
    ) { (scratch, index) throws(SurgeryError) in
      let piece = pieces[index]
      let step = steps[piece.step]
      let outcome = try process(piece, of: step, scratch: &scratch)
      outcomes.withLock { $0[piece.step] += outcome }
    }
    let found = outcomes.withLock { $0 }
    for (step, outcome) in zip(steps, found) where outcome.loss.overflowed > 0 && !allowOverflow {
      throw SurgeryError(
        .data, "dtype.overflow",
        "\(outcome.loss.overflowed) finite values do not fit \(step.dtype)",
        file: step.source.source.file.path, tensor: step.source.name.text,
        hint: "--dtype bf16 or f32 holds them; --allow-overflow accepts the loss")
    }
    return found
  }

  private static func pieces(
    of step: TensorStep, index: Int, writer: CheckpointWriter
  ) -> [Piece] {
    let info = step.source.info
    let total = step.isCopy ? info.byteCount : info.shape.rows
    guard info.byteCount > 0, total > 0 else { return [] }
    let whole =
      step.source.source.isSequential || writer.isSequential(file: step.place.file)
      || !step.worksByRows
    let count = whole ? 1 : max(1, min(total, info.byteCount / pieceBytes))
    return (0..<count).map { part in
      Piece(step: index, range: (total * part / count)..<(total * (part + 1) / count))
    }
  }

  private struct CopyScratch {
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
  }

  private func process(
    _ piece: Piece, of step: TensorStep, scratch: inout CopyScratch
  ) throws(SurgeryError) -> StepOutcome {
    do throws(SurgeryError) {
      guard !step.isCopy else {
        try writer.copy(
          step.source, bytes: piece.range, to: step.place, scratch: &scratch.bytes)
        execution.progress.advance(by: piece.range.count)
        return StepOutcome()
      }
      if step.needsDouble(precision) {
        return try BlockRewriting<Double>(step, pipeline: self).run(rows: piece.range)
      } else {
        return try BlockRewriting<Float>(step, pipeline: self).run(rows: piece.range)
      }
    } catch {
      throw error.inFile(step.source.source.file.path).inTensor(step.source.name)
    }
  }
}
