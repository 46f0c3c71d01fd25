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
  ///   - factor: A power of two that D is multiplied with, so that products neither overflow nor vanish.
  /// - Throws: What reading throws.
  init<Source: BlockedMatrix<Scalar>>(
    over matrix: inout Source, directions: Matrix<Scalar>, scale factor: Scalar
  ) throws(SurgeryError) {
    let product = ThinProduct(directions)
    var images = zeros(matrix.rows * product.stride, of: Scalar.self)
    var gram = product.emptyGram()
    var scratch: [Scalar] = []
    try matrix.forEachChunk { (first, rows, chunk) throws(SurgeryError) in
      if factor == 1 {
        product.writeImages(of: chunk, rows: rows, to: &images, at: first)
        product.addGram(of: chunk, rows: rows, images: images, at: first, to: &gram)
      } else {
        scaled(chunk, by: factor, into: &scratch)
        product.writeImages(of: scratch.span, rows: rows, to: &images, at: first)
        product.addGram(of: scratch.span, rows: rows, images: images, at: first, to: &gram)
      }
    }
    self.images = product.unpadded(images, rows: matrix.rows)
    self.gram = product.gramRows(gram)
  }
}
