import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Rewrites rows of one stored tensor, block by block, in one precision.
struct BlockRewriting<Scalar: BLASScalar> {
  private let step: TensorStep
  private let pipeline: RewritePipeline
  private let updates: [(loaded: any LoadedUpdate<Scalar>, planned: PlannedUpdate)]
  private let columns: Int

  /// Elements of one block: read, widened, updated and rounded while it is in the second-level cache.
  private static var blockElements: Int { 1 << 17 }

  init(_ step: TensorStep, pipeline: RewritePipeline) throws(SurgeryError) {
    self.step = step
    self.pipeline = pipeline
    columns = step.source.info.shape.columns
    var updates: [(loaded: any LoadedUpdate<Scalar>, planned: PlannedUpdate)] = []
    for planned in step.updates {
      updates.append((try planned.update.loaded(scale: planned.scale, as: Scalar.self), planned))
    }
    self.updates = updates
  }

  /// Rewrites `rows` of the stored matrix.
  func run(rows: Range<Int>) throws(SurgeryError) -> StepOutcome {
    let rowsPerBlock =
      step.worksByRows
      ? max(1, min(rows.count, Self.blockElements / max(1, columns))) : rows.count
    var reader = try ElementReader<Scalar>(step.source, capacity: rowsPerBlock * columns)
    var values = [Scalar](repeating: 0, count: rowsPerBlock * columns)
    guard let bytesPerElement = step.dtype.bytesPerElement else {
      throw SurgeryError(
        .unsupported, "tensor.dtype", "values cannot be stored in this dtype",
        found: step.dtype.name)
    }
    var bytes = [UInt8](repeating: 0, count: rowsPerBlock * columns * bytesPerElement)
    var outcome = StepOutcome()
    var row = rows.lowerBound
    while row < rows.upperBound {
      try pipeline.execution.interruption.check()
      let range = row..<min(row + rowsPerBlock, rows.upperBound)
      let count = range.count * columns
      if values.count != count { values = [Scalar](repeating: 0, count: count) }
      var span = values.mutableSpan
      try reader.read(from: row * columns, into: &span)
      try checkFinite(values, at: row * columns)
      try apply(to: &values, rows: range)
      outcome.loss += try narrow(values, into: &bytes)
      let size = count * bytesPerElement
      try unsafe pipeline.writer.write(
        bytes.span.extracting(0..<size).bytes, to: step.place, at: row * columns * bytesPerElement)
      pipeline.execution.progress.advance(
        by: count * (step.source.info.dtype.bytesPerElement ?? 0))
      row = range.upperBound
    }
    return outcome
  }

  private func narrow(
    _ values: [Scalar], into bytes: inout [UInt8]
  ) throws(SurgeryError) -> NarrowingLoss {
    let size = values.count * (step.dtype.bytesPerElement ?? 0)
    return try bytes.withMutableRawSpan(0..<size) { (target) throws(SurgeryError) in
      Scalar.narrow(values.span, to: step.dtype, into: &target)
    }
  }

  /// A tensor that is only converted keeps its NaN; one that is computed with must be finite.
  private func checkFinite(_ values: [Scalar], at start: Int) throws(SurgeryError) {
    guard !updates.isEmpty, let index = firstNonFinite(values.span) else { return }
    throw SurgeryError(
      .data, "tensor.non-finite", "element \(start + index) is not finite",
      expected: "a finite number", found: "\(values[index])",
      hint: "check lists every such tensor; --exclude leaves it as it is")
  }

  private func apply(to values: inout [Scalar], rows: Range<Int>) throws(SurgeryError) {
    var block = Matrix(rows: rows.count, columns: columns, elements: values)
    values = []
    if step.isTransposed { block = block.transposed() }
    let outputs = step.isTransposed ? 0..<columns : rows
    let inputs = step.isTransposed ? rows : 0..<columns
    for (loaded, planned) in updates {
      let part = outputs.clamped(to: planned.rows)
      guard !part.isEmpty else { continue }
      let own =
        (part.lowerBound - planned.rows.lowerBound)..<(part.upperBound - planned.rows.lowerBound)
      if part == outputs {
        try apply(loaded, planned.weight, to: &block, rows: own, columns: inputs)
      } else {
        let inside = (part.lowerBound - outputs.lowerBound)..<(part.upperBound - outputs.lowerBound)
        var slice = block.rows(inside)
        try apply(loaded, planned.weight, to: &slice, rows: own, columns: inputs)
        block.replaceRows(from: inside.lowerBound, with: slice)
      }
    }
    values = step.isTransposed ? block.transposed().elements : block.elements
  }

  private func apply(
    _ update: any LoadedUpdate<Scalar>, _ weight: Double, to block: inout Matrix<Scalar>,
    rows: Range<Int>, columns: Range<Int>
  ) throws(SurgeryError) {
    switch step.direction {
    case .merge: update.apply(to: &block, rows: rows, columns: columns, weight: weight)
    case .unmerge: try update.unapply(to: &block, rows: rows, columns: columns, weight: weight)
    }
  }
}

extension Matrix {
  /// A copy of some rows.
  fileprivate func rows(_ range: Range<Int>) -> Matrix {
    Matrix(
      rows: range.count, columns: columns,
      elements: Array(elements[(range.lowerBound * columns)..<(range.upperBound * columns)]))
  }

  /// Puts the rows of another matrix of the same width in place of some of this one's.
  fileprivate mutating func replaceRows(from first: Int, with other: Matrix) {
    let width = columns
    withElements { span in
      for index in other.elements.indices { span[first * width + index] = other.elements[index] }
    }
  }
}

/// The index of the first NaN or infinity.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func firstNonFinite<Scalar: BLASScalar>(_ values: Span<Scalar>) -> Int? {
  // Counting compares needs no branch an element, so the compiler does several at once.
  let special = Scalar.infinity.exponentBitPattern
  var count = 0
  for index in values.indices { count &+= values[index].exponentBitPattern == special ? 1 : 0 }
  if count == 0 { return nil }
  return values.indices.first { !values[$0].isFinite }
}
