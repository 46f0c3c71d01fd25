internal import Tensors

/// The first reading of a matrix: its norm, and a sketch of far fewer rows with nearly the same row space.
///
/// A row of the sketch is the sum of `group` neighbouring rows with random signs (a count sketch: Clarkson &
/// Woodruff 2013, doi:10.1145/2488608.2488620), so that in expectation its Gram matrix is that of the whole, and no
/// row is left out. Searching it first is cheap and saves readings of the whole.
struct Survey<Scalar: BLASScalar> {
  /// The squared Frobenius norm, in float64.
  var squaredNorm: Double
  /// The sketch, already multiplied by `scale`; no rows where none was asked for.
  var sketch: Matrix<Scalar>
  /// The power of two that brings the matrix into the range where products neither overflow nor vanish; mostly 1.
  var scale: Double

  /// Reads the matrix once.
  ///
  /// - Parameters:
  ///   - matrix: The matrix.
  ///   - group: Rows that become one row of the sketch; 0 for no sketch.
  ///   - random: The source of the signs.
  /// - Throws: `la.not-finite` with the element's index, or what reading throws.
  init<Source: BlockedMatrix<Scalar>>(
    of matrix: inout Source, group: Int, random: inout RandomSource
  ) throws(SurgeryError) {
    let width = matrix.columns
    let signs = group == 0 ? [] : (0..<(matrix.rows + 63) / 64).map { _ in random.next() }
    let rows = group == 0 ? 0 : (matrix.rows + group - 1) / group
    var sketch = zeros(rows * width, of: Scalar.self)
    var sum = 0.0
    try matrix.forEachChunk { (first, count, chunk) throws(SurgeryError) in
      sum += try finiteSquares(of: chunk, at: first * width)
      guard group > 0 else { return }
      for row in 0..<count {
        let index = first + row
        let sign: Scalar = signs[index / 64] >> UInt64(index % 64) & 1 == 0 ? 1 : -1
        add(sign, chunk, row * width, to: &sketch, index / group * width, count: width)
      }
    }
    squaredNorm = sum
    scale = Self.scale(forNorm: sum.squareRoot())
    if scale != 1 { LinearAlgebra.scale(&sketch, 0..<sketch.count, by: Scalar(scale)) }
    self.sketch = Matrix(rows: rows, columns: width, elements: sketch)
  }

  /// One where the norm is moderate, else a power of two that brings it near one.
  private static func scale(forNorm norm: Double) -> Double {
    if norm == 0 || (norm > 1e-6 && norm < 1e6) { return 1 }
    // Beyond 2^120 the factor itself would leave the range of float32.
    let exponent = min(120, max(-120, -Int(norm.exponent)))
    return Double(sign: .plus, exponent: exponent, significand: 1)
  }
}
