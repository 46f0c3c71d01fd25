// Loops over elements, compiled for both precisions here, because callers in other modules would otherwise run
// them unspecialised.

/// Writes the transpose of a row-major matrix, in tiles that stay in the first-level cache.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func transpose<Scalar: BLASScalar>(
  _ source: Span<Scalar>, rows: Int, columns: Int, into target: inout [Scalar]
) {
  let tile = 16
  var span = target.mutableSpan
  for top in stride(from: 0, to: rows, by: tile) {
    for left in stride(from: 0, to: columns, by: tile) {
      for row in top..<min(top + tile, rows) {
        for column in left..<min(left + tile, columns) {
          span[column &* rows &+ row] = source[row &* columns &+ column]
        }
      }
    }
  }
}

/// The elements in another precision.
@specialized(where From == Float, To == Double)
@specialized(where From == Double, To == Float)
@specialized(where From == Double, To == Double)
@specialized(where From == Float, To == Float)
func convert<From: BLASScalar, To: BLASScalar>(_ source: Span<From>, to: To.Type) -> [To] {
  unsafe [To](unsafeUninitializedCapacity: source.count) { target, count in
    for i in 0..<source.count { unsafe target[i] = To(source[i]) }
    count = source.count
  }
}

/// The sum of squares in float64.
///
/// Summed in eight lanes, in an order that depends on the count alone.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func sumOfSquares<Scalar: BLASScalar>(_ source: Span<Scalar>) -> Double {
  unsafe source.withUnsafeBufferPointer { values in
    if let start = values.baseAddress, let thin = Scalar.routines.thin {
      return unsafe thin.squares(start, values.count)
    }
    var lanes = SIMD8<Double>(repeating: 0)
    let whole = values.count & ~7
    for i in stride(from: 0, to: whole, by: 8) {
      var value = SIMD8<Double>()
      for lane in 0..<8 { unsafe value[lane] = Double(values[i &+ lane]) }
      lanes += value * value
    }
    var sum = lanes.sum()
    for i in whole..<values.count { unsafe sum += Double(values[i]) * Double(values[i]) }
    return sum
  }
}

/// The index of the first element that is infinite or not a number.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func firstNonFinite<Scalar: BLASScalar>(_ source: Span<Scalar>) -> Int? {
  for i in source.indices where !source[i].isFinite { return i }
  return nil
}

/// Multiplies a run of elements by a factor.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func scale<Scalar: BLASScalar>(
  _ elements: inout [Scalar], _ range: Range<Int>, by factor: Scalar
) {
  var span = elements.mutableSpan
  for i in range { span[i] *= factor }
}

/// Adds `factor` times one run of elements to another: `target[i] += factor * source[i]`.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func add<Scalar: BLASScalar>(
  _ factor: Scalar, _ source: Span<Scalar>, _ sourceStart: Int, to target: inout [Scalar],
  _ targetStart: Int, count: Int
) {
  var span = target.mutableSpan
  for i in 0..<count { span[targetStart &+ i] += factor * source[sourceStart &+ i] }
}

/// The products `a' b` of the columns of two row-major matrices with `rows` rows, in float64.
///
/// - Returns: `columnsA x columnsB` sums, row-major.
func columnProducts<Scalar: BLASScalar>(
  _ a: Span<Scalar>, columnsA: Int, _ b: Span<Scalar>, columnsB: Int, rows: Int
) -> [Double] {
  var result = [Double](repeating: 0, count: columnsA * columnsB)
  let chunk = 256
  for first in stride(from: 0, to: rows, by: chunk) {
    let count = min(chunk, rows - first)
    let left = convert(
      a.extracting(first * columnsA..<(first + count) * columnsA), to: Double.self)
    let right = convert(
      b.extracting(first * columnsB..<(first + count) * columnsB), to: Double.self)
    multiply(
      left.span, transposed: true, right.span, transposed: false, m: columnsA, n: columnsB,
      inner: count, beta: 1, into: &result)
  }
  return result
}

/// The products `a b'` of the rows of two row-major matrices of `columns` columns, in float64.
///
/// - Returns: `a.rows x b.rows` sums, row-major.
func rowProducts<Scalar: BLASScalar>(_ a: Matrix<Scalar>, _ b: Matrix<Scalar>) -> Matrix<Double> {
  product(a.converted(to: Double.self), b.converted(to: Double.self), transposeSecond: true)
}

/// The products of the rows of a row-major matrix with each other, in float64.
///
/// - Returns: `rows x rows` sums, symmetric.
func rowProducts<Scalar: BLASScalar>(_ a: Matrix<Scalar>) -> Matrix<Double> {
  let wide = a.converted(to: Double.self)
  return product(wide, wide, transposeSecond: true)
}

/// Writes the elements times a factor, in another precision, into a buffer, which is resized to fit.
@specialized(where From == Float, To == Float)
@specialized(where From == Float, To == Double)
@specialized(where From == Double, To == Double)
func scaled<From: BLASScalar, To: BLASScalar>(
  _ source: Span<From>, by factor: To, into target: inout [To]
) {
  target.removeAll(keepingCapacity: true)
  target.reserveCapacity(source.count)
  for i in source.indices { target.append(To(source[i]) * factor) }
}

/// Appends elements to an array.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func append<Scalar: BLASScalar>(_ source: Span<Scalar>, to target: inout [Scalar]) {
  unsafe source.withUnsafeBufferPointer { unsafe target.append(contentsOf: $0) }
}

/// The elements of a row-major matrix, each column multiplied by its factor, in another precision.
@specialized(where From == Float, To == Double)
@specialized(where From == Double, To == Float)
@specialized(where From == Double, To == Double)
@specialized(where From == Float, To == Float)
func unscaled<From: BLASScalar, To: BLASScalar>(
  _ source: Span<From>, by factors: Span<Double>, to: To.Type
) -> [To] {
  let width = factors.count
  return unsafe [To](unsafeUninitializedCapacity: source.count) { target, count in
    for row in 0..<source.count / max(1, width) {
      for column in 0..<width {
        let index = row &* width &+ column
        unsafe target[index] = To(Double(source[index]) * factors[column])
      }
    }
    count = source.count
  }
}

/// The sum of the products of corresponding elements.
func innerProduct(_ a: Span<Double>, _ b: Span<Double>) -> Double {
  var sum = 0.0
  for i in a.indices { sum += a[i] * b[i] }
  return sum
}

/// An array of zeros.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func zeros<Scalar: BLASScalar>(_ count: Int, of: Scalar.Type) -> [Scalar] {
  [Scalar](repeating: 0, count: count)
}

/// Makes an array one of zeros, in the memory that it has where that suffices.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func refill<Scalar: BLASScalar>(_ elements: inout [Scalar], count: Int) {
  if elements.count != count {
    elements.removeAll(keepingCapacity: true)
    elements.append(contentsOf: repeatElement(0, count: count))
    return
  }
  unsafe elements.withUnsafeMutableBufferPointer { unsafe $0.update(repeating: 0) }
}

/// Two runs of elements, one after the other.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func joined<Scalar: BLASScalar>(_ first: [Scalar], _ second: [Scalar]) -> [Scalar] {
  first + second
}

/// A part of an array.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func slice<Scalar: BLASScalar>(_ elements: [Scalar], _ range: Range<Int>) -> [Scalar] {
  Array(elements[range])
}

/// Exchanges the first row with the last, the second with the last but one, and so on.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func reverseRows<Scalar: BLASScalar>(_ elements: inout [Scalar], width: Int) {
  let rows = width == 0 ? 0 : elements.count / width
  var span = elements.mutableSpan
  for row in 0..<rows / 2 {
    let (upper, lower) = (row &* width, (rows &- 1 &- row) &* width)
    for column in 0..<width { span.swapAt(upper &+ column, lower &+ column) }
  }
}
