import Adapters
import Checkpoints
import LinearAlgebra
import Synchronization
import Tensors

/// Streams tensors from inputs to an output: copied, converted, or changed by updates.
///
/// Big tensors are cut into pieces, so that all workers stay busy to the end; every piece goes through the same loop of
/// read, add, round and write, in blocks that stay in cache.
struct RewritePipeline {
  let writer: CheckpointWriter
  let execution: Execution
  let arithmetic: Arithmetic
  /// Where what unmerging needs is recorded.
  var undo: UndoRecording?

  /// Bytes of one piece of a tensor: enough to make loading the factors cheap, little enough to share out.
  private static let pieceBytes = 32 << 20

  /// A part of one step.
  private struct Piece: Sendable {
    enum Work: Sendable {
      /// Bytes of a tensor that is copied.
      case copy(Range<Int>)
      /// Blocks of a tensor that is changed.
      case rewrite(Range<Int>)
      /// Pages of the base's tensor that another takes the place of.
      case record(Range<Int>)
    }
    var step: Int
    var work: Work
  }

  /// What one worker keeps.
  private struct Buffers {
    var copy = [UInt8](repeating: 0, count: 1 << 20)
    var single = BlockBuffers<Float>()
    var double = BlockBuffers<Double>()
  }

  /// Runs every step and returns what each found, in order.
  ///
  /// - Throws: What reading and writing throw; `dtype.overflow` where a result does not fit its dtype.
  func run(_ steps: [TensorStep]) throws(SurgeryError) -> [StepOutcome] {
    let pieces = steps.indices.flatMap { cut(steps[$0], index: $0) }
    let sequential = pieces.contains { writer.isSequential(file: steps[$0.step].place.file) }
    let outcomes = Mutex([StepOutcome](repeating: StepOutcome(), count: pieces.count))
    try execution.runWriting(
      steps: pieces.count, isSequential: sequential, makeState: { Buffers() }
    ) { (buffers, stage, index) throws(SurgeryError) in
      let outcome = try process(
        pieces[index], of: steps[pieces[index].step], &buffers, stage)
      outcomes.withLock { $0[index] = outcome }
    }
    // Added up in the order of the pieces, so that sums do not depend on which worker was first.
    var found = [StepOutcome](repeating: StepOutcome(), count: steps.count)
    for (piece, outcome) in zip(pieces, outcomes.withLock { $0 }) { found[piece.step] += outcome }
    for (step, outcome) in zip(steps, found)
    where outcome.sums.loss.overflowed > 0 && !arithmetic.allowOverflow {
      throw .overflow(of: outcome.sums.loss, storedAs: step.dtype, in: step.source)
    }
    return found
  }

  private func cut(_ step: TensorStep, index: Int) -> [Piece] {
    var pieces: [Piece] = []
    let info = step.source.info
    if info.byteCount > 0 {
      let total = step.isCopy ? info.byteCount : step.geometry.count
      // Factors as large as the tensor would be read whole for every piece.
      let factors = step.updates.reduce(0) { $0 + $1.update.parameterCount }
      let whole =
        step.source.source.isSequential || writer.isSequential(file: step.place.file)
        || factors > info.shape.elementCount / 4
      pieces = Self.ranges(total, whole ? 1 : info.byteCount / Self.pieceBytes).map {
        Piece(step: index, work: step.isCopy ? .copy($0) : .rewrite($0))
      }
    }
    if let recorded = undo?.steps[index], recorded.isReplaced {
      pieces += Self.ranges(recorded.pageCount, recorded.base.info.byteCount / Self.pieceBytes)
        .map { Piece(step: index, work: .record($0)) }
    }
    return pieces
  }

  private static func ranges(_ total: Int, _ wanted: Int) -> [Range<Int>] {
    guard total > 0 else { return [] }
    let count = max(1, min(total, wanted))
    return (0..<count).map { total * $0 / count..<total * ($0 + 1) / count }
  }

  private func process(
    _ piece: Piece, of step: TensorStep, _ buffers: inout Buffers, _ stage: WriteStage
  ) throws(SurgeryError) -> StepOutcome {
    do throws(SurgeryError) {
      switch piece.work {
      case .copy(let range):
        try writer.copy(
          step.source, bytes: range, to: step.place, scratch: &buffers.copy, through: stage)
        execution.progress.advance(by: range.count)
        return StepOutcome()
      case .rewrite(let blocks):
        return step.needsDouble(arithmetic)
          ? try rewrite(blocks, of: step, piece.step, &buffers.double, stage)
          : try rewrite(blocks, of: step, piece.step, &buffers.single, stage)
      case .record(let pages):
        try undo?.recordReplaced(pages, of: piece.step, by: step)
        return StepOutcome()
      }
    } catch {
      throw step.source.explained(error)
    }
  }

  private func rewrite<Scalar: BLASScalar>(
    _ blocks: Range<Int>, of step: TensorStep, _ index: Int,
    _ buffers: inout BlockBuffers<Scalar>, _ stage: WriteStage
  ) throws(SurgeryError) -> StepOutcome {
    let (columns, size) = (step.geometry.columns, step.dtype.bytesPerElement ?? 0)
    let rewriting = try BlockRewriting<Scalar>(step, arithmetic)
    guard let recorder = try undo?.recorder(of: index, step) else {
      return try rewriting.fill(
        blocks: blocks, buffers: &buffers, interruption: execution.interruption
      ) { (rows, input, count, rewrite) throws(SurgeryError) in
        try writer.fill(
          count, of: step.place, at: rows.lowerBound * columns * size, through: stage, rewrite)
        execution.progress.advance(by: input.count)
      }
    }
    return try rewriting.run(
      blocks: blocks, buffers: &buffers, interruption: execution.interruption
    ) { (rows, input, output) throws(SurgeryError) in
      try unsafe writer.write(
        output.span.bytes, to: step.place, at: rows.lowerBound * columns * size, through: stage)
      try recorder.record(rows, base: input, merged: output)
      execution.progress.advance(by: input.count)
    }
  }
}
