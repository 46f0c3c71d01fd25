internal import Tensors

/// The Gram matrix of the shorter side of a matrix: `D'D`, or `D D'` where D has fewer rows than columns.
///
/// Worth forming where many directions are wanted: it costs as much as readings for a quarter of the shorter side in
/// directions, and from then on nothing is read.
struct ShorterGram<Scalar: BLASScalar> {
  /// Whether this is `D D'`.
  let isOfRows: Bool
  /// Symmetric, one row and column for each row or column of D.
  var matrix: Matrix<Scalar>
  /// How often D was read.
  let passes: Int

  /// Reads the matrix, and copies some of its rows at a time.
  ///
  /// - Parameters:
  ///   - source: The matrix D.
  ///   - factor: A power of two that D is multiplied with, so that products neither overflow nor vanish.
  /// - Throws: What reading throws.
  /// - Complexity: O(*rows* · *columns* · min(*rows*, *columns*)) time; memory for the Gram matrix and 480 rows of D.
  init<Source: BlockedMatrix>(of source: inout Source, scale factor: Double) throws(SurgeryError) {
    isOfRows = source.rows < source.columns
    if isOfRows {
      (matrix, passes) = try Self.gramOfRows(&source, factor)
    } else {
      (matrix, passes) = (try Self.gramOfColumns(&source, factor), 1)
    }
  }

  private static func gramOfColumns<Source: BlockedMatrix>(
    _ source: inout Source, _ factor: Double
  ) throws(SurgeryError) -> Matrix<Scalar> {
    let width = source.columns
    var sums = zeros(width * width, of: Scalar.self)
    var (strip, scratch): ([Scalar], [Scalar]) = ([], [])
    strip.reserveCapacity(rowsPerStrip * width)
    try source.forEachChunk { (_, rows, chunk) throws(SurgeryError) in
      if strip.count + rows * width > rowsPerStrip * width {
        addGram(ofColumns: strip.span, rows: strip.count / width, width: width, to: &sums)
        strip.removeAll(keepingCapacity: true)
      }
      withElements(of: chunk, times: factor, scratch: &scratch) { append($0, to: &strip) }
    }
    addGram(ofColumns: strip.span, rows: strip.count / width, width: width, to: &sums)
    mirror(&sums, width)
    return Matrix(rows: width, columns: width, elements: sums)
  }

  private static func gramOfRows<Source: BlockedMatrix>(
    _ source: inout Source, _ factor: Double
  ) throws(SurgeryError) -> (Matrix<Scalar>, passes: Int) {
    let (height, width) = (source.rows, source.columns)
    var sums = Matrix<Scalar>(rows: height, columns: height)
    var (strip, scratch, products): ([Scalar], [Scalar], [Scalar]) = ([], [], [])
    var read = 0
    for first in stride(from: 0, to: height, by: rowsPerStrip) {
      let count = min(rowsPerStrip, height - first)
      strip.removeAll(keepingCapacity: true)
      try source.forEachChunk(in: first..<first + count) { (_, _, chunk) throws(SurgeryError) in
        withElements(of: chunk, times: factor, scratch: &scratch) { append($0, to: &strip) }
      }
      try source.forEachChunk(in: first..<height) { (row, rows, chunk) throws(SurgeryError) in
        withElements(of: chunk, times: factor, scratch: &scratch) { elements in
          refill(&products, count: rows * count)
          multiply(
            elements, transposed: false, strip.span, transposed: true, m: rows, n: count,
            inner: width, into: &products)
        }
        place(products.span, rows: rows, columns: count, at: row, first, in: &sums)
      }
      read += count + height - first
    }
    return (sums, (read + height - 1) / height)
  }

  /// Right vectors that belong to vectors of the shorter side, one a row.
  ///
  /// - Throws: What reading throws, which is done only if the shorter side is that of the rows; `la.memory`.
  func rightVectors<Source: BlockedMatrix>(
    for vectors: Matrix<Scalar>, of source: inout Source, scale factor: Double
  ) throws(SurgeryError) -> Matrix<Scalar> {
    guard isOfRows else { return vectors }
    let (count, width) = (vectors.rows, source.columns)
    let columns = vectors.transposed()
    var sums = zeros(count * width, of: Scalar.self)
    var scratch: [Scalar] = []
    try source.forEachChunk { (first, rows, chunk) throws(SurgeryError) in
      withElements(of: chunk, times: factor, scratch: &scratch) { elements in
        multiply(
          columns.elements.span.extracting(first * count..<(first + rows) * count),
          transposed: true, elements, transposed: false, m: count, n: width, inner: rows, beta: 1,
          into: &sums)
      }
    }
    // Orthogonal but for rounding, which matters where singular values are small.
    let rows = normalisedRows(Matrix(rows: count, columns: width, elements: sums))
    return try orthonormalRows(rows).basis
  }
}

/// Rows that are multiplied with all others at a time: enough for the sums to be passed through seldom.
private let rowsPerStrip = 480

/// Adds the products of the columns of some rows to the upper triangle of their sums.
private func addGram<Scalar: BLASScalar>(
  ofColumns rows: Span<Scalar>, rows count: Int, width: Int, to sums: inout [Scalar]
) {
  precondition(rows.count == count * width && sums.count == width * width)
  unsafe rows.withUnsafeBufferPointer { rows in
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      guard let rows = rows.baseAddress, let sums = sums.baseAddress else { return }
      unsafe Scalar.routines.addGram(width, count, rows, sums)
    }
  }
}

/// Copies the upper triangle of a square matrix to the lower.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func mirror<Scalar: BLASScalar>(_ elements: inout [Scalar], _ size: Int) {
  let tile = 32
  var span = elements.mutableSpan
  for top in stride(from: 0, to: size, by: tile) {
    for left in stride(from: 0, through: top, by: tile) {
      for row in top..<min(top + tile, size) {
        for column in left..<min(left + tile, row) {
          span[row &* size &+ column] = span[column &* size &+ row]
        }
      }
    }
  }
}

/// Writes a block and its transpose into a symmetric matrix.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func place<Scalar: BLASScalar>(
  _ block: Span<Scalar>, rows: Int, columns: Int, at top: Int, _ left: Int,
  in matrix: inout Matrix<Scalar>
) {
  let size = matrix.columns
  matrix.withElements { span in
    for row in 0..<rows {
      for column in 0..<columns {
        let value = block[row &* columns &+ column]
        span[(top &+ row) &* size &+ left &+ column] = value
        span[(left &+ column) &* size &+ top &+ row] = value
      }
    }
  }
}
