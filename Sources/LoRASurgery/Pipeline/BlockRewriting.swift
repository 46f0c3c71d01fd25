import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Rewrites blocks of one stored tensor in one precision: read, add, round, write.
struct BlockRewriting<Scalar: BLASScalar> {
  private let step: TensorStep
  private let geometry: BlockGeometry
  private let rounding: BlockRounding<Scalar>
  private let change: TensorChange<Scalar>
  private let size: (source: Int, target: Int)

  /// Reads the factors.
  ///
  /// - Throws: `tensor.dtype` where the elements are no numbers, and what reading throws.
  init(_ step: TensorStep, _ arithmetic: Arithmetic) throws(SurgeryError) {
    self.step = step
    geometry = step.geometry
    change = try TensorChange(step.updates, step.direction)
    let source = step.source.info.dtype
    guard source.isNumeric, step.dtype.isNumeric, let sourceSize = source.bytesPerElement,
      let targetSize = step.dtype.bytesPerElement
    else {
      throw SurgeryError(
        .unsupported, "tensor.dtype", "elements of this dtype cannot be computed with",
        found: source.isNumeric ? step.dtype.name : source.name)
    }
    size = (sourceSize, targetSize)
    var stochastic: StochasticRounding?
    if case .stochastic(let seed) = arithmetic.rounding {
      stochastic = StochasticRounding(seed: seed, tensor: step.source.name, dtype: step.dtype)
    }
    rounding = BlockRounding(source: source, target: step.dtype, stochastic: stochastic)
  }

  /// Rewrites some blocks.
  ///
  /// - Parameters:
  ///   - blocks: Numbers of blocks of the step's geometry.
  ///   - pool: The worker's buffers.
  ///   - interruption: The token that stops the work.
  ///   - emit: Receives each block before and after: its rows, the bytes read and the bytes made.
  /// - Returns: What was added.
  /// - Throws: `tensor.non-finite`, and what reading and `emit` throw.
  func run(
    blocks: Range<Int>, buffers pool: inout BlockBuffers<Scalar>, interruption: Interruption,
    _ emit: (Range<Int>, [UInt8], [UInt8]) throws(SurgeryError) -> Void
  ) throws(SurgeryError) -> StepOutcome {
    var output: [UInt8] = []
    swap(&output, &pool.output)
    defer { swap(&output, &pool.output) }
    return try fill(
      blocks: blocks, buffers: &pool, interruption: interruption
    ) { (rows, input, count, rewrite) throws(SurgeryError) in
      if output.count != count { output = [UInt8](repeating: 0, count: count) }
      try output.withMutableRawSpan(0..<count, rewrite)
      try emit(rows, input, output)
    }
  }

  /// Rewrites some blocks into memory of the caller's choice.
  ///
  /// - Parameters:
  ///   - blocks: Numbers of blocks of the step's geometry.
  ///   - pool: The worker's buffers.
  ///   - interruption: The token that stops the work.
  ///   - place: Receives the rows of each block, the bytes read, the number of bytes to make, and what makes them; it must call that
  ///     once, with room for so many.
  /// - Returns: What was added.
  /// - Throws: `tensor.non-finite`, and what reading and `place` throw.
  func fill(
    blocks: Range<Int>, buffers pool: inout BlockBuffers<Scalar>, interruption: Interruption,
    _ place: (
      Range<Int>, [UInt8], Int, (inout MutableRawSpan) throws(SurgeryError) -> Void
    ) throws(SurgeryError) -> Void
  ) throws(SurgeryError) -> StepOutcome {
    // Held apart from the other buffers, so that two can be used at once.
    var input: [UInt8] = []
    swap(&input, &pool.input)
    defer { swap(&input, &pool.input) }
    var reader = try step.source.source.makeReader()
    var outcome = StepOutcome()
    for block in blocks {
      try interruption.check()
      let rows = geometry.rows(of: block)
      let count = rows.count * geometry.columns
      let start = rows.lowerBound * geometry.columns
      if input.count != count * size.source {
        input = [UInt8](repeating: 0, count: count * size.source)
      }
      try input.withMutableRawSpan(0..<input.count) { (target) throws(SurgeryError) in
        try reader.read(at: start * size.source, into: &target)
      }
      try place(rows, input, count * size.target) { (output) throws(SurgeryError) in
        let sums = try rewrite(input, into: &output, rows: rows, start: start, buffers: &pool)
        if sums.nonFinite > 0 { throw nonFinite(input, at: start) }
        outcome.sums += sums
      }
    }
    return outcome
  }

  private func rewrite(
    _ input: [UInt8], into output: inout MutableRawSpan, rows: Range<Int>, start: Int,
    buffers: inout BlockBuffers<Scalar>
  ) throws(SurgeryError) -> AdditionSums {
    if step.updates.isEmpty {
      // A tensor that is only converted keeps its NaN; one that is computed with must be finite.
      var sums = AdditionSums()
      sums.loss = rounding.convert(
        input, count: rows.count * geometry.columns, into: &output, at: start, buffers: &buffers)
      return sums
    }
    guard step.isAdditive else {
      return try rounding.change(
        input, rows: rows.count, columns: geometry.columns, into: &output, at: start,
        buffers: &buffers
      ) { (block) throws(SurgeryError) in try change.apply(to: &block, rows: rows) }
    }
    if rounding.hasKernels,
      let sums = unsafe change.add(
        to: input.span.bytes, of: rounding.source, into: &output, rows: rows)
    {
      return sums
    }
    buffers.delta.reset(rows: rows.count, columns: geometry.columns)
    change.addDelta(to: &buffers.delta, rows: rows)
    return rounding.add(
      buffers.delta.elements, to: input, into: &output, at: start, buffers: &buffers)
  }

  private func nonFinite(_ input: [UInt8], at start: Int) -> SurgeryError {
    let values = [Double](widening: input, from: step.source.info.dtype)
    let index = values.firstIndex { !$0.isFinite } ?? 0
    return SurgeryError(
      .data, "tensor.non-finite", "element \(start + index) is not finite",
      expected: "a finite number", found: "\(values[index])",
      hint: "check lists every such tensor; --exclude leaves it as it is")
  }
}
