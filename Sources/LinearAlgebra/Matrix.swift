/// A dense matrix in row-major order.
///
///     let identity = Matrix<Float>(rows: 2, columns: 2, elements: [1, 0, 0, 1])
public struct Matrix<Scalar: BLASScalar>: Sendable, Equatable {
  /// Number of rows.
  public private(set) var rows: Int
  /// Number of columns.
  public private(set) var columns: Int
  /// The elements, row after row: `rows * columns` of them.
  public private(set) var elements: [Scalar]

  /// Wraps `rows * columns` elements in row-major order; another count is a programming error.
  public init(rows: Int, columns: Int, elements: [Scalar]) {
    precondition(
      elements.count == rows * columns,
      "\(elements.count) elements do not make a \(rows) x \(columns) matrix")
    self.rows = rows
    self.columns = columns
    self.elements = elements
  }

  /// A matrix of zeros.
  public init(rows: Int, columns: Int) {
    self.init(
      rows: rows, columns: columns, elements: zeros(rows * columns, of: Scalar.self))
  }

  /// The rows of matrices of equal width, those of one after those of the other.
  ///
  /// - Parameter matrices: The matrices; widths that differ are a programming error.
  public init(stacking matrices: [Matrix]) {
    self.init(
      rows: matrices.reduce(0) { $0 + $1.rows }, columns: matrices.first?.columns ?? 0,
      elements: matrices.count == 1 ? matrices[0].elements : matrices.flatMap(\.elements))
  }

  /// One element.
  public subscript(row: Int, column: Int) -> Scalar {
    get { elements[row * columns + column] }
    set { elements[row * columns + column] = newValue }
  }

  /// Lends the elements for change in place, row-major.
  ///
  /// - Parameter body: Receives the `rows * columns` elements.
  /// - Returns: What `body` returns.
  /// - Throws: What `body` throws.
  public mutating func withElements<Result, Failure: Error>(
    _ body: (inout MutableSpan<Scalar>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var span = elements.mutableSpan
    return try body(&span)
  }

  /// Makes this a matrix of zeros of another size, in the memory that it has where that suffices.
  ///
  /// - Parameters:
  ///   - rows: The new number of rows.
  ///   - columns: The new number of columns.
  public mutating func reset(rows: Int, columns: Int) {
    self.rows = rows
    self.columns = columns
    refill(&elements, count: rows * columns)
  }

  /// Gives the elements up, so that their memory can be used without a copy; leaves a matrix without elements.
  mutating func takeElements() -> [Scalar] {
    var taken: [Scalar] = []
    swap(&taken, &elements)
    (rows, columns) = (0, 0)
    return taken
  }

  /// The matrix with rows and columns exchanged.
  public func transposed() -> Matrix {
    var result = zeros(elements.count, of: Scalar.self)
    transpose(elements.span, rows: rows, columns: columns, into: &result)
    return Matrix(rows: columns, columns: rows, elements: result)
  }

  /// The first rows, at most `count` of them.
  public func prefix(_ count: Int) -> Matrix {
    let kept = min(count, rows)
    return Matrix(rows: kept, columns: columns, elements: slice(elements, 0..<kept * columns))
  }

  /// The rows but for the first ones.
  func dropFirst(_ count: Int) -> Matrix {
    let dropped = min(count, rows)
    return Matrix(
      rows: rows - dropped, columns: columns,
      elements: slice(elements, dropped * columns..<elements.count))
  }

  /// The matrices of equal height that make this one when they are stacked.
  ///
  /// - Parameter count: Divides the number of rows.
  /// - Returns: So many matrices.
  public func parted(into count: Int) -> [Matrix] {
    if count == 1 { return [self] }
    let height = rows / count
    return (0..<count).map { part in
      Matrix(
        rows: height, columns: columns,
        elements: slice(elements, part * height * columns..<(part + 1) * height * columns))
    }
  }

  /// The matrix in another precision, each element rounded to nearest even.
  public func converted<Other: BLASScalar>(to: Other.Type) -> Matrix<Other> {
    Matrix<Other>(
      rows: rows, columns: columns, elements: convert(elements.span, to: Other.self))
  }

  /// This matrix with the rows of another, of equal width, below its own.
  func appending(_ other: Matrix) -> Matrix {
    Matrix(rows: rows + other.rows, columns: columns, elements: joined(elements, other.elements))
  }
}

/// The matrix product of `a`, or its transpose, and `b`, or its transpose.
///
/// - Parameters:
///   - a: The left factor.
///   - b: The right factor; an inner dimension that differs is a programming error.
///   - transposeFirst: Whether to use the transpose of `a`.
///   - transposeSecond: Whether to use the transpose of `b`.
/// - Returns: The product.
/// - Complexity: O(*m* · *n* · *k*), by BLAS.
public func product<Scalar: BLASScalar>(
  _ a: Matrix<Scalar>, _ b: Matrix<Scalar>, transposeFirst: Bool = false,
  transposeSecond: Bool = false
) -> Matrix<Scalar> {
  let (m, inner) = transposeFirst ? (a.columns, a.rows) : (a.rows, a.columns)
  let (other, n) = transposeSecond ? (b.columns, b.rows) : (b.rows, b.columns)
  precondition(inner == other, "inner dimensions \(inner) and \(other) differ")
  var result = zeros(m * n, of: Scalar.self)
  multiply(
    a.elements.span, transposed: transposeFirst, b.elements.span, transposed: transposeSecond,
    m: m, n: n, inner: inner, into: &result)
  return Matrix(rows: m, columns: n, elements: result)
}

/// Row-major `c = alpha · op(a) · op(b) + beta · c` on whole, contiguous matrices.
func multiply<Scalar: BLASScalar>(
  _ a: Span<Scalar>, transposed transposeA: Bool, _ b: Span<Scalar>, transposed transposeB: Bool,
  m: Int, n: Int, inner: Int, alpha: Scalar = 1, beta: Scalar = 0, into c: inout [Scalar],
  at offset: Int = 0
) {
  precondition(a.count >= m * inner && b.count >= inner * n && c.count >= offset + m * n)
  guard m > 0, n > 0 else { return }
  unsafe a.withUnsafeBufferPointer { a in
    unsafe b.withUnsafeBufferPointer { b in
      unsafe c.withUnsafeMutableBufferPointer { c in
        guard let a = a.baseAddress, let b = b.baseAddress, let c = c.baseAddress else { return }
        unsafe Scalar.routines.multiply(
          transposeA, transposeB, m, n, inner, alpha, a, transposeA ? m : inner, b,
          transposeB ? inner : n, beta, c + offset, n)
      }
    }
  }
}
