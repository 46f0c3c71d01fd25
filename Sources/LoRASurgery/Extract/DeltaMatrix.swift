import Checkpoints
import LinearAlgebra
import Tensors

/// The difference of two stored tensors, tuned minus base, formed block by block as it is read.
///
/// Rows and columns are those of the storage: the first dimension by all the others.
struct DeltaMatrix<Scalar: BLASScalar>: BlockedMatrix {
  let rows: Int
  let columns: Int

  private var base: ElementReader<Scalar>
  private var tuned: ElementReader<Scalar>
  private var baseValues: [Scalar]
  private var values: [Scalar]
  private let rowsPerBlock: Int
  private let interruption: Interruption

  /// Elements of one block: three buffers of it stay in the second-level cache.
  private static var blockElements: Int { 1 << 16 }

  /// Prepares reading; both tensors have the same shape.
  init(
    base: StoredTensor, tuned: StoredTensor, interruption: Interruption
  ) throws(SurgeryError) {
    precondition(base.info.shape == tuned.info.shape, "shapes differ")
    rows = tuned.info.shape.rows
    columns = tuned.info.shape.columns
    rowsPerBlock = max(1, min(rows, Self.blockElements / max(1, columns)))
    let capacity = rowsPerBlock * columns
    self.base = try ElementReader(base, capacity: capacity)
    self.tuned = try ElementReader(tuned, capacity: capacity)
    baseValues = [Scalar](repeating: 0, count: capacity)
    values = baseValues
    self.interruption = interruption
  }

  mutating func forEachBlock(
    in range: Range<Int>,
    _ body: (_ firstRow: Int, _ block: Span<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    var row = range.lowerBound
    while row < range.upperBound {
      try interruption.check()
      let count = min(rowsPerBlock, range.upperBound - row) * columns
      try fill(from: row * columns, count: count)
      try body(row, values.span.extracting(0..<count))
      row += count / columns
    }
  }

  private mutating func fill(from start: Int, count: Int) throws(SurgeryError) {
    var difference: [Scalar] = []
    swap(&difference, &values)
    defer { swap(&difference, &values) }
    var subtrahend: [Scalar] = []
    swap(&subtrahend, &baseValues)
    defer { swap(&subtrahend, &baseValues) }
    var target = difference.mutableSpan
    var block = target._mutatingExtracting(0..<count)
    try tuned.read(from: start, into: &block)
    var other = subtrahend.mutableSpan
    var otherBlock = other._mutatingExtracting(0..<count)
    try base.read(from: start, into: &otherBlock)
    subtract(subtrahend.span.extracting(0..<count), from: &block)
  }
}

@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func subtract<Scalar: BLASScalar>(
  _ subtrahend: Span<Scalar>, from values: inout MutableSpan<Scalar>
) {
  precondition(subtrahend.count == values.count)
  for index in subtrahend.indices { values[index] -= subtrahend[index] }
}

extension StoredTensor {
  /// Whether both tensors hold the same bytes; reads until they differ.
  func hasSameBytes(
    as other: StoredTensor, interruption: Interruption
  ) throws(SurgeryError) -> Bool {
    guard info.dtype == other.info.dtype, info.shape == other.info.shape else { return false }
    let size = 1 << 18
    var buffers = ([UInt8](repeating: 0, count: size), [UInt8](repeating: 0, count: size))
    var readers = (try source.makeReader(), try other.source.makeReader())
    var position = 0
    while position < info.byteCount {
      try interruption.check()
      let count = min(size, info.byteCount - position)
      try buffers.0.withMutableRawSpan(0..<count) { (span) throws(SurgeryError) in
        try readers.0.read(at: position, into: &span)
      }
      try buffers.1.withMutableRawSpan(0..<count) { (span) throws(SurgeryError) in
        try readers.1.read(at: position, into: &span)
      }
      if buffers.0[..<count] != buffers.1[..<count] { return false }
      position += count
    }
    return true
  }
}
