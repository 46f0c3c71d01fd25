import Checkpoints
import LinearAlgebra
import Tensors

/// Distances of stored elements from expected ones, in units in the last place.
struct UnitComparison: Sendable {
  private(set) var total = 0
  private(set) var equal = 0
  private(set) var maximum: UInt64 = 0

  /// Computes a step block by block and compares with a stored tensor.
  init<Scalar: BLASScalar>(
    _ step: TensorStep, _ merged: StoredTensor, _ precision: Precision, _: Scalar.Type,
    _ execution: Execution
  ) throws(SurgeryError) {
    let rewriting = try BlockRewriting<Scalar>(step, Arithmetic(precision: precision))
    var reader = try merged.source.makeReader()
    var buffers = BlockBuffers<Scalar>()
    let size = merged.info.dtype.bytesPerElement ?? 1
    let columns = step.geometry.columns
    var actual: [UInt8] = []
    var found = (total: 0, equal: 0, maximum: UInt64(0))
    _ = try rewriting.run(
      blocks: 0..<step.geometry.count, buffers: &buffers, interruption: execution.interruption
    ) { (rows, _, expected) throws(SurgeryError) in
      if actual.count != expected.count { actual = [UInt8](repeating: 0, count: expected.count) }
      try actual.withMutableRawSpan(0..<actual.count) { (target) throws(SurgeryError) in
        try reader.read(at: rows.lowerBound * columns * size, into: &target)
      }
      let count = expected.count / size
      found.total += count
      if actual.hasSameBytes(as: expected, count: expected.count) {
        found.equal += count
      } else {
        let block = distances(expected, actual, size: size)
        found.equal += block.equal
        found.maximum = max(found.maximum, block.maximum)
      }
    }
    (total, equal, maximum) = found
  }
}

/// Equal elements of two runs, and the largest distance in the order of the dtype's values.
private func distances(
  _ first: [UInt8], _ second: [UInt8], size: Int
) -> (equal: Int, maximum: UInt64) {
  switch size {
  case 1: distances(first, second, UInt8.self)
  case 2: distances(first, second, UInt16.self)
  case 4: distances(first, second, UInt32.self)
  default: distances(first, second, UInt64.self)
  }
}

@specialized(where Pattern == UInt8)
@specialized(where Pattern == UInt16)
@specialized(where Pattern == UInt32)
@specialized(where Pattern == UInt64)
private func distances<Pattern: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
  _ first: [UInt8], _ second: [UInt8], _: Pattern.Type
) -> (equal: Int, maximum: UInt64) {
  let (left, right) = unsafe (first.span.bytes, second.span.bytes)
  let sign = Pattern(1) << Pattern(Pattern.bitWidth - 1)
  var (equal, maximum) = (0, Pattern(0))
  for offset in stride(from: 0, to: first.count, by: MemoryLayout<Pattern>.size) {
    let a = unsafe left.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: Pattern.self)
    let b = unsafe right.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: Pattern.self)
    if a == b {
      equal += 1
      continue
    }
    // The two zeros lie next to each other in this order and are one value: no distance between them.
    let (x, y) = (a & sign == 0 ? a | sign : ~a &+ 1, b & sign == 0 ? b | sign : ~b &+ 1)
    maximum = max(maximum, x > y ? x - y : y - x)
  }
  return (equal, UInt64(maximum))
}
