import Checkpoints
import LinearAlgebra
import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The difference of two stored tensors, tuned minus base, formed block by block as it is read.
///
/// Rows and columns are those of the storage: the first dimension by all the others. The first rows, as many as the caller
/// allows, stay in memory once they have been read; the others are read again each time.
struct DeltaMatrix<Scalar: BLASScalar>: BlockedMatrix {
  let rows: Int
  let columns: Int

  private var base: ElementReader<Scalar>
  private var tuned: ElementReader<Scalar>
  /// The rows that are kept, then one block for all others.
  private var values: [Scalar]
  private var baseValues: [Scalar] = []
  private let rowsPerBlock: Int
  private let keptRows: Int
  private var filledRows = 0
  private let interruption: Interruption

  /// Prepares reading; both tensors have the same shape.
  ///
  /// - Parameters:
  ///   - base: The subtrahend.
  ///   - tuned: The minuend.
  ///   - interruption: Stops the reading.
  ///   - elements: The most elements to keep between readings.
  ///   - buffer: A buffer that another matrix gave back; its content does not matter.
  /// - Throws: `tensor.dtype` where the elements are no numbers to compute with, or what opening throws.
  init(
    base: StoredTensor, tuned: StoredTensor, interruption: Interruption, keeping elements: Int = 0,
    in buffer: [Scalar] = []
  ) throws(SurgeryError) {
    precondition(base.info.shape == tuned.info.shape, "shapes differ")
    rows = tuned.info.shape.rows
    columns = tuned.info.shape.columns
    rowsPerBlock = max(1, min(rows, LinearAlgebra.rowsPerChunk(columns: columns)))
    let affordable = elements / max(1, columns)
    keptRows = affordable >= rows ? rows : affordable / rowsPerBlock * rowsPerBlock
    let block = rowsPerBlock * columns
    self.base = try ElementReader(base, capacity: block)
    self.tuned = try ElementReader(tuned, capacity: block)
    let capacity = min(rows, keptRows + rowsPerBlock) * columns
    values = buffer
    if values.count < capacity {
      // The old buffer goes before the new one comes.
      values = []
      values = [Scalar](repeating: 0, count: capacity)
    }
    self.interruption = interruption
  }

  /// Gives the buffer up, for the next matrix.
  mutating func takeBuffer() -> [Scalar] {
    var buffer: [Scalar] = []
    swap(&buffer, &values)
    filledRows = 0
    return buffer
  }

  mutating func forEachBlock(
    in range: Range<Int>,
    _ body: (_ firstRow: Int, _ block: Span<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    var row = range.lowerBound
    while row < range.upperBound {
      try interruption.check()
      let next = min(row + rowsPerBlock, range.upperBound)
      let place = next <= keptRows ? row : keptRows
      let target = place * columns..<(place + next - row) * columns
      if next > filledRows {
        try fill(target, from: row * columns)
        if next <= keptRows, row <= filledRows { filledRows = next }
      }
      try body(row, values.span.extracting(target))
      row = next
    }
  }

  /// The standard deviation of the noise that rounding the tuned tensor to its dtype has put on each element of the delta.
  ///
  /// The base is what training started from, and so exact. The tuned tensor is read once more.
  mutating func tunedRoundingNoise() throws(SurgeryError) -> Double {
    var sum = 0.0
    var values = [Scalar](repeating: 0, count: rowsPerBlock * columns)
    for row in stride(from: 0, to: rows, by: rowsPerBlock) {
      try interruption.check()
      let count = min(rowsPerBlock, rows - row) * columns
      var span = values.mutableSpan
      var block = span._mutatingExtracting(0..<count)
      try tuned.read(from: row * columns, into: &block)
      sum += ElementConversion.roundingVariance(
        values.span.extracting(0..<count), of: tuned.tensor.info.dtype)
    }
    return (sum / Double(max(1, rows * columns))).squareRoot()
  }

  private mutating func fill(_ range: Range<Int>, from start: Int) throws(SurgeryError) {
    try tuned.load(from: start, count: range.count)
    try base.load(from: start, count: range.count)
    // Taken out of self for the call: the readers are read while the span is lent.
    var (difference, subtrahend): ([Scalar], [Scalar]) = ([], [])
    swap(&difference, &values)
    swap(&subtrahend, &baseValues)
    defer {
      swap(&difference, &values)
      swap(&subtrahend, &baseValues)
    }
    var target = difference.mutableSpan
    var block = target._mutatingExtracting(range)
    if tuned.widenDifference(from: base, into: &block) { return }
    tuned.widenLoaded(into: &block)
    if subtrahend.count < range.count {
      subtrahend = [Scalar](repeating: 0, count: rowsPerBlock * columns)
    }
    var other = subtrahend.mutableSpan
    var otherBlock = other._mutatingExtracting(0..<range.count)
    base.widenLoaded(into: &otherBlock)
    subtract(subtrahend.span.extracting(0..<range.count), from: &block)
  }
}

/// Buffers that wait for their next use, so that their pages need not be given back and asked for again.
final class BufferPool<Scalar: BLASScalar>: Sendable {
  private let waiting = Mutex<[[Scalar]]>([])

  /// A buffer that was put back, or an empty one.
  func take() -> [Scalar] { waiting.withLock { $0.popLast() } ?? [] }

  /// Puts a buffer back.
  func put(_ buffer: [Scalar]) { waiting.withLock { $0.append(buffer) } }
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
    let size = 1 << 16
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
      if !buffers.0.hasSameBytes(as: buffers.1, count: count) { return false }
      position += count
    }
    return true
  }
}

extension [UInt8] {
  /// Whether the first `count` bytes of both are the same; comparing arrays goes byte by byte.
  func hasSameBytes(as other: [UInt8], count: Int) -> Bool {
    precondition(count <= self.count && count <= other.count)
    return unsafe withUnsafeBytes { first in
      unsafe other.withUnsafeBytes { second in
        guard let first = first.baseAddress, let second = second.baseAddress else { return true }
        return unsafe memcmp(first, second, count) == 0
      }
    }
  }
}
