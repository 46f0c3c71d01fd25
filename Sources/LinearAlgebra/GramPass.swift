internal import Tensors

/// What one reading of a matrix `D` gives for some directions: `images = D P'` and `gram = (D'D P')'`.
///
/// The precision is that of the directions; elements of another one are converted as they are read.
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
  init<Source: BlockedMatrix>(
    over matrix: inout Source, directions: Matrix<Scalar>, scale factor: Double
  ) throws(SurgeryError) {
    let product = ThinProduct(directions)
    var images = zeros(matrix.rows * product.stride, of: Scalar.self)
    var gram = product.emptyGram()
    var scratch: [Scalar] = []
    try matrix.forEachChunk { (first, rows, chunk) throws(SurgeryError) in
      withElements(of: chunk, times: factor, scratch: &scratch) { elements in
        product.writeImages(of: elements, rows: rows, to: &images, at: first)
        product.addGram(of: elements, rows: rows, images: images, at: first, to: &gram)
      }
    }
    self.images = product.unpadded(images, rows: matrix.rows)
    self.gram = product.gramRows(gram)
  }
}

/// Lends elements times a factor in another precision; elements that are wanted as they are, without a copy.
func withElements<From: BLASScalar, To: BLASScalar>(
  of source: Span<From>, times factor: Double, scratch: inout [To], _ body: (Span<To>) -> Void
) {
  if From.self == To.self, factor == 1 {
    unsafe source.withUnsafeBufferPointer { elements in
      // Both types are the same one, which the compiler cannot know.
      let same = unsafe UnsafeRawBufferPointer(elements).assumingMemoryBound(to: To.self)
      unsafe body(same.span)
    }
  } else {
    scaled(source, by: To(factor), into: &scratch)
    body(scratch.span)
  }
}
