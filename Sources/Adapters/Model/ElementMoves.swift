import LinearAlgebra
import Tensors

// Loops over elements, each compiled for the types it is used with.

/// Transposes elements of one size without looking at their values.
@specialized(where Pattern == UInt8)
@specialized(where Pattern == UInt16)
@specialized(where Pattern == UInt32)
@specialized(where Pattern == UInt64)
func transposedBytes<Pattern: BitwiseCopyable>(
  _ bytes: [UInt8], _: Pattern.Type, rows: Int, columns: Int
) -> [UInt8] {
  var result = [UInt8](repeating: 0, count: bytes.count)
  let size = MemoryLayout<Pattern>.size
  unsafe bytes.withUnsafeBytes { source in
    unsafe result.withUnsafeMutableBytes { target in
      for row in 0..<rows {
        for column in 0..<columns {
          unsafe target.storeBytes(
            of: source.loadUnaligned(
              fromByteOffset: (row &* columns &+ column) &* size, as: Pattern.self),
            toByteOffset: (column &* rows &+ row) &* size, as: Pattern.self)
        }
      }
    }
  }
  return result
}

/// The index of the first NaN or infinity.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func firstNonFinite<Scalar: BLASScalar>(_ values: [Scalar]) -> Int? {
  // Zero times a finite value is zero, times any other NaN; the sum finds out without a branch an element.
  var sum: Scalar = 0
  for value in values { sum += value * 0 }
  return sum == 0 ? nil : values.firstIndex { !$0.isFinite }
}

/// Adds `scale` times `source` to `target`.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func addScaled<Scalar: BLASScalar>(
  _ source: Span<Scalar>, times scale: Scalar, to target: inout MutableSpan<Scalar>
) {
  precondition(source.count == target.count)
  for i in source.indices { target[i] += scale * source[i] }
}

/// Multiplies `target` by `source`, element by element.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func multiplyElements<Scalar: BLASScalar>(
  of target: inout MutableSpan<Scalar>, by source: Span<Scalar>
) {
  precondition(source.count == target.count)
  for i in source.indices { target[i] *= source[i] }
}

extension Matrix {
  /// A rectangle of the matrix.
  func block(rows: Range<Int>, columns range: Range<Int>) -> Matrix {
    if range == 0..<columns {
      if rows == 0..<self.rows { return self }
      return Matrix(
        rows: rows.count, columns: columns,
        elements: Array(elements[(rows.lowerBound * columns)..<(rows.upperBound * columns)]))
    }
    var result: [Scalar] = []
    result.reserveCapacity(rows.count * range.count)
    for row in rows {
      result += elements[(row * columns + range.lowerBound)..<(row * columns + range.upperBound)]
    }
    return Matrix(rows: rows.count, columns: range.count, elements: result)
  }

  /// Adds `scale` times a matrix of the same shape.
  mutating func add(_ other: Matrix, times scale: Scalar) {
    withElements { addScaled(other.elements.span, times: scale, to: &$0) }
  }
}
