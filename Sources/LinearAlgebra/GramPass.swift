internal import Tensors

/// What one reading of a matrix `D` gives for some directions: `images = D P'` and `gram = (D'D P')'`.
struct GramPass<Scalar: BLASScalar> {
  /// Rows of D x number of directions.
  var images: Matrix<Scalar>
  /// Number of directions x columns of D.
  var gram: Matrix<Scalar>

  /// Reads the matrix once.
  ///
  /// - Parameters:
  ///   - matrix: The matrix D.
  ///   - directions: P, one direction a row.
  ///   - scale: A power of two that D is multiplied with, so that products neither overflow nor vanish.
  init<Source: BlockedMatrix<Scalar>>(
    over matrix: inout Source, directions: Matrix<Scalar>, scale factor: Scalar
  ) throws(SurgeryError) {
    let (count, width) = (directions.rows, matrix.columns)
    var images = [Scalar](repeating: 0, count: matrix.rows * count)
    var gram = [Scalar](repeating: 0, count: count * width)
    var scratch: [Scalar] = []
    try matrix.forEachChunk { (first, rows, chunk) throws(SurgeryError) in
      func add(_ chunk: Span<Scalar>) {
        multiply(
          chunk, transposed: false, directions.elements.span, transposed: true, m: rows, n: count,
          inner: width, into: &images, at: first * count)
        let own = images.span.extracting(first * count..<(first + rows) * count)
        multiply(
          own, transposed: true, chunk, transposed: false, m: count, n: width, inner: rows,
          beta: 1, into: &gram)
      }
      if factor == 1 {
        add(chunk)
      } else {
        scaled(chunk, by: factor, into: &scratch)
        add(scratch.span)
      }
    }
    self.images = Matrix(rows: matrix.rows, columns: count, elements: images)
    self.gram = Matrix(rows: count, columns: width, elements: gram)
  }
}
