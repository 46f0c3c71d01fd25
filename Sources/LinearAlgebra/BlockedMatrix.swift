public import Tensors

/// A matrix that is read in blocks of whole rows and never lies in memory whole.
///
/// Typically the difference of two stored tensors, formed as the blocks are asked for.
public protocol BlockedMatrix<Scalar> {
  /// The precision of its elements.
  associatedtype Scalar: BLASScalar
  /// Number of rows.
  var rows: Int { get }
  /// Number of columns.
  var columns: Int { get }

  /// Reads some rows, block after block, from the first to the last.
  ///
  /// The arithmetic cuts the blocks up into chunks of ``rowsPerChunk(columns:)`` rows each; blocks of a multiple of
  /// that give the same bits whatever the multiple is.
  ///
  /// - Parameters:
  ///   - range: The rows wanted, within `0..<rows`.
  ///   - body: Receives the number of a block's first row and its whole rows, row-major.
  /// - Throws: What reading or `body` throws.
  mutating func forEachBlock(
    in range: Range<Int>,
    _ body: (_ firstRow: Int, _ block: Span<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError)
}

/// A matrix in memory is one block, or as many as a range needs.
extension Matrix: BlockedMatrix {
  /// Lends the rows of the range as one block.
  public func forEachBlock(
    in range: Range<Int>,
    _ body: (_ firstRow: Int, _ block: Span<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    guard !range.isEmpty, columns > 0 else { return }
    try body(
      range.lowerBound,
      elements.span.extracting(range.lowerBound * columns..<range.upperBound * columns))
  }
}

extension BlockedMatrix {
  /// Reads the matrix in blocks that fit the second-level cache.
  ///
  /// - Parameters:
  ///   - range: The rows wanted; by default all.
  ///   - body: Receives the first row's number, the number of rows, and the rows.
  /// - Throws: What reading or `body` throws.
  mutating func forEachChunk(
    in range: Range<Int>? = nil,
    _ body: (_ firstRow: Int, _ count: Int, _ chunk: Span<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    let width = columns
    let most = rowsPerChunk(columns: width)
    try forEachBlock(in: range ?? 0..<rows) { (first, block) throws(SurgeryError) in
      let count = block.count / width
      var done = 0
      while done < count {
        let next = min(count, done + most)
        try body(first + done, next - done, block.extracting(done * width..<next * width))
        done = next
      }
    }
  }
}

/// The number of rows that suits both the caches and the kernels.
///
/// A chunk is read twice, for both products, and should stay in the second-level cache between; the kernels take four, six or
/// eight rows at a time, and go through the sums of all columns once every 48. Of long rows, 48 matter more than the cache,
/// up to 2 MiB of float32.
///
/// - Parameter columns: The width of the rows.
/// - Returns: A multiple of 12.
public func rowsPerChunk(columns: Int) -> Int {
  let width = max(1, columns)
  let strips = (1 << 17) / width / 48
  return strips > 0 ? 48 * strips : max(12, min(48, (1 << 19) / width / 12 * 12))
}

/// The squared Frobenius norm of a matrix, which must be finite.
///
/// - Parameter matrix: The matrix; it is read once.
/// - Returns: The sum of the squares, accumulated in float64.
/// - Throws: `SurgeryError` with id `la.not-finite` and the element's index, `la.range` where the squares leave the
///   range of float64, or what reading throws.
public func squaredNorm<Source: BlockedMatrix>(of matrix: inout Source) throws(SurgeryError)
  -> Double
{
  let columns = matrix.columns
  var sum = 0.0
  try matrix.forEachChunk { (first, _, chunk) throws(SurgeryError) in
    sum += try finiteSquares(of: chunk, at: first * columns)
  }
  if sum == 0 { try refuseVanishedSquares(of: &matrix) }
  return sum
}

/// Fails where a matrix whose squares sum to zero has other elements than zeros.
///
/// Only float64 has elements whose squares it cannot hold; the matrix is read once more then.
func refuseVanishedSquares<Source: BlockedMatrix>(of matrix: inout Source) throws(SurgeryError) {
  guard Source.Scalar.self == Double.self else { return }
  try matrix.forEachChunk { (_, _, chunk) throws(SurgeryError) in
    if chunk.indices.allSatisfy({ chunk[$0] == 0 }) { return }
    throw SurgeryError(
      .unsupported, "la.range", "the squares of the elements vanish in float64",
      hint: "scale the tensor up")
  }
}

/// The sum of squares of a block whose first element has the index `start` in its tensor.
func finiteSquares<Scalar: BLASScalar>(of block: Span<Scalar>, at start: Int)
  throws(SurgeryError) -> Double
{
  let sum = sumOfSquares(block)
  if sum.isFinite { return sum }
  if let index = firstNonFinite(block) {
    throw SurgeryError(
      .data, "la.not-finite", "element \(start + index) is not finite",
      expected: "a finite number", found: "\(block[index])")
  }
  throw SurgeryError(
    .unsupported, "la.range", "the squares of the elements exceed the range of float64",
    hint: "scale the tensor down")
}
