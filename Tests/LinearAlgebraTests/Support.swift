import LinearAlgebra
import Tensors

/// A seeded generator for test data, independent of the one under test (xorshift64*).
struct TestRandom {
  var state: UInt64

  init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

  mutating func unit() -> Double {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return Double((state &* 0x2545_F491_4F6C_DD1D) >> 11) / 0x1p53
  }

  /// Nearly normal: variance 1.
  mutating func normal() -> Double {
    (0..<12).reduce(-6) { sum, _ in sum + unit() }
  }

  mutating func matrix(_ rows: Int, _ columns: Int, scale: Double = 1) -> Matrix<Double> {
    Matrix(
      rows: rows, columns: columns,
      elements: (0..<rows * columns).map { _ in scale * normal() })
  }

  /// `sum_i values[i] u_i v_i'` with nearly orthonormal vectors, and noise on every element.
  mutating func matrix(_ rows: Int, _ columns: Int, values: [Double], noise: Double = 0)
    -> Matrix<Double>
  {
    var left = matrix(rows, values.count, scale: 1 / Double(rows).squareRoot())
    let right = matrix(values.count, columns, scale: 1 / Double(columns).squareRoot())
    for row in 0..<rows { for (i, value) in values.enumerated() { left[row, i] *= value } }
    var result = product(left, right)
    if noise > 0 {
      result.withElements { span in for i in span.indices { span[i] += noise * normal() } }
    }
    return result
  }
}

/// All singular values by LAPACK in float64: the truth that results are held against.
func trueValues<Scalar>(_ matrix: Matrix<Scalar>) throws -> [Double] {
  var double = matrix.converted(to: Double.self)
  return try exactDecomposition(of: &double, rank: 0, route: .singularValues).singularValues
}

func energy(_ values: some Sequence<Double>) -> Double { values.reduce(0) { $0 + $1 * $1 } }

/// The energy of the projection of a matrix on the span of orthonormal rows, in float64.
func capturedEnergy<Scalar>(_ matrix: Matrix<Scalar>, by right: Matrix<Scalar>) -> Double {
  energy(
    product(
      matrix.converted(to: Double.self), right.converted(to: Double.self), transposeSecond: true
    ).elements)
}

/// The largest deviation of the products of rows from the identity.
func deviationFromOrthonormal<Scalar>(_ rows: Matrix<Scalar>) -> Double {
  let double = rows.converted(to: Double.self)
  let gram = product(double, double, transposeSecond: true)
  var worst = 0.0
  for i in 0..<gram.rows {
    for j in 0..<gram.columns { worst = max(worst, abs(gram[i, j] - (i == j ? 1 : 0))) }
  }
  return worst
}

/// Delivers a matrix in blocks of uneven sizes, and counts how often each row is read.
struct CountingBlocks<Scalar: BLASScalar>: BlockedMatrix {
  var matrix: Matrix<Scalar>
  var rowsPerBlock: Int
  var rowsRead = 0

  var rows: Int { matrix.rows }
  var columns: Int { matrix.columns }

  mutating func forEachBlock(
    in range: Range<Int>,
    _ body: (_ firstRow: Int, _ block: Span<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    var first = range.lowerBound
    while first < range.upperBound {
      let next = min(range.upperBound, first + rowsPerBlock)
      rowsRead += next - first
      try body(
        first, matrix.elements.span.extracting(first * columns..<next * columns))
      first = next
    }
  }
}

/// `base` to a real power, without a libc import.
func power(_ base: Double, _ exponent: Double) -> Double {
  if exponent < 0 { return 1 / power(base, -exponent) }
  // Repeated square roots give every binary digit of the exponent.
  var (result, root, rest) = (1.0, base, exponent)
  while rest >= 1 { result *= base; rest -= 1 }
  for _ in 0..<50 {
    root = root.squareRoot()
    rest *= 2
    if rest >= 1 { result *= root; rest -= 1 }
  }
  return result
}
