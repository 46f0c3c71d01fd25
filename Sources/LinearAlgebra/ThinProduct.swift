/// Products of blocks of a wide matrix with a few directions, and of their transposes with the images.
///
/// Single precision goes through kernels of our own where the CPU has AVX2: 1.4 to 1.6 times as fast as OpenBLAS on these
/// shapes, because nothing is packed. Their directions lie side by side, padded to a multiple of eight with zeros.
@safe
struct ThinProduct<Scalar: BLASScalar> {
  /// One direction a row.
  let directions: Matrix<Scalar>
  /// Elements from one row of images to the next: the number of directions, or the padded one.
  let stride: Int
  private let kernels: ThinKernels<Scalar>?
  private let packed: [Scalar]

  init(_ directions: Matrix<Scalar>, usingKernels: Bool = true) {
    self.directions = directions
    kernels = usingKernels ? Scalar.routines.thin : nil
    stride = kernels == nil ? directions.rows : (directions.rows + 7) & ~7
    packed = kernels == nil ? [] : directions.padded(toRows: stride).transposed().elements
  }

  private var width: Int { directions.columns }

  /// Writes `chunk · directions'` as the rows of `images` from `first` on; each row has `stride` elements.
  func writeImages(
    of chunk: Span<Scalar>, rows: Int, to images: inout [Scalar], at first: Int
  ) {
    guard stride > 0 else { return }
    guard let kernels else {
      return multiply(
        chunk, transposed: false, directions.elements.span, transposed: true, m: rows, n: stride,
        inner: width, into: &images, at: first * stride)
    }
    precondition(chunk.count == rows * width && images.count >= (first + rows) * stride)
    unsafe chunk.withUnsafeBufferPointer { block in
      unsafe packed.withUnsafeBufferPointer { packed in
        unsafe images.withUnsafeMutableBufferPointer { images in
          guard let block = block.baseAddress, let packed = packed.baseAddress,
            let images = images.baseAddress
          else { return }
          unsafe kernels.images(block, rows, width, packed, stride, images + first * stride)
        }
      }
    }
  }

  /// A Gram sum of zeros, in the layout that ``addGram(of:rows:images:at:to:)`` wants.
  func emptyGram() -> [Scalar] { zeros(stride * width, of: Scalar.self) }

  /// Adds the transpose of the chunk times its images.
  func addGram(
    of chunk: Span<Scalar>, rows: Int, images: [Scalar], at first: Int, to gram: inout [Scalar]
  ) {
    guard stride > 0 else { return }
    let own = images.span.extracting(first * stride..<(first + rows) * stride)
    guard let kernels else {
      return multiply(
        own, transposed: true, chunk, transposed: false, m: stride, n: width, inner: rows, beta: 1,
        into: &gram)
    }
    precondition(chunk.count == rows * width && gram.count == width * stride)
    unsafe chunk.withUnsafeBufferPointer { block in
      unsafe own.withUnsafeBufferPointer { own in
        unsafe gram.withUnsafeMutableBufferPointer { gram in
          guard let block = block.baseAddress, let own = own.baseAddress,
            let gram = gram.baseAddress
          else { return }
          unsafe kernels.addGram(block, rows, width, own, stride, gram)
        }
      }
    }
  }

  /// The Gram sum with one direction a row.
  func gramRows(_ gram: [Scalar]) -> Matrix<Scalar> {
    if kernels == nil { return Matrix(rows: stride, columns: width, elements: gram) }
    return Matrix(rows: width, columns: stride, elements: gram).transposed()
      .prefix(directions.rows)
  }

  /// The images without padding, one row each.
  func unpadded(_ images: [Scalar], rows: Int) -> Matrix<Scalar> {
    let count = directions.rows
    let padded = Matrix(rows: rows, columns: stride, elements: images)
    return stride == count ? padded : padded.transposed().prefix(count).transposed()
  }
}

/// The kernels behind a ``ThinProduct``, see `LowRankKernels.h`.
@safe
struct ThinKernels<Scalar: BLASScalar>: Sendable {
  /// `images = block · packed`.
  let images:
    @Sendable (
      _ block: UnsafePointer<Scalar>, _ rows: Int, _ columns: Int, _ packed: UnsafePointer<Scalar>,
      _ count: Int, _ images: UnsafeMutablePointer<Scalar>
    ) -> Void
  /// `gram += block' · images`.
  let addGram:
    @Sendable (
      _ block: UnsafePointer<Scalar>, _ rows: Int, _ columns: Int, _ images: UnsafePointer<Scalar>,
      _ count: Int, _ gram: UnsafeMutablePointer<Scalar>
    ) -> Void
  /// The sum of squares in float64.
  let squares: @Sendable (_ values: UnsafePointer<Scalar>, _ count: Int) -> Double
}
