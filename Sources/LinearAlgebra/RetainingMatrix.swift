public import Tensors

/// A blocked matrix that keeps what it reads, if that is little enough, so that later passes need not read again.
///
///     var matrix = RetainingMatrix(delta, limit: 16 << 20)
///
/// It takes `rows * columns` elements of memory where they are at most `limit`, else none.
public struct RetainingMatrix<Source: BlockedMatrix>: BlockedMatrix {
  /// The precision of the elements.
  public typealias Scalar = Source.Scalar

  private var source: Source
  private let retains: Bool
  private var kept: [Scalar] = []

  /// Wraps a matrix.
  ///
  /// - Parameters:
  ///   - source: The matrix to read.
  ///   - limit: The most elements to keep.
  public init(_ source: Source, limit: Int) {
    self.source = source
    retains = source.rows * source.columns <= limit
  }

  /// Number of rows.
  public var rows: Int { source.rows }
  /// Number of columns.
  public var columns: Int { source.columns }

  /// Reads rows from memory where they have been kept, else from the source.
  public mutating func forEachBlock(
    in range: Range<Int>,
    _ body: (_ firstRow: Int, _ block: Span<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    let width = columns
    if range.upperBound * width <= kept.count {
      guard !range.isEmpty, width > 0 else { return }
      return try body(
        range.lowerBound,
        kept.span.extracting(range.lowerBound * width..<range.upperBound * width))
    }
    guard retains, range == 0..<rows else { return try source.forEachBlock(in: range, body) }
    kept = []
    var keeping: [Scalar] = []
    keeping.reserveCapacity(rows * width)
    try source.forEachBlock(in: range) { (first, block) throws(SurgeryError) in
      try body(first, block)
      append(block, to: &keeping)
    }
    kept = keeping
  }
}
