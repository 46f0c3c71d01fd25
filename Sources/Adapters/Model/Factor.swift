public import Checkpoints
public import LinearAlgebra
public import Tensors

/// A stored tensor seen as a matrix, of which nothing is read until a worker asks for it.
///
/// A view is a chain of steps (reshape, transpose, take rows, take columns) that only move elements, so that the bytes of
/// a view can be copied without rounding, and widened when numbers are wanted.
public struct Factor: Sendable {
  /// A movement of elements.
  enum Step: Sendable, Hashable {
    case reshape(rows: Int, columns: Int)
    case transpose(rows: Int, columns: Int)
    case rows(Range<Int>, columns: Int)
    case columns(Range<Int>, rows: Int, columns: Int)
    case order([Int], columns: Int)
  }

  /// The tensor as stored.
  public let tensor: StoredTensor
  /// Rows of the view.
  public private(set) var rows: Int
  /// Columns of the view.
  public private(set) var columns: Int
  private(set) var steps: [Step] = []

  /// Views a tensor as a matrix: its first dimension by all others; a vector as one column.
  public init(_ tensor: StoredTensor) {
    self.tensor = tensor
    rows = tensor.info.shape.rows
    columns = tensor.info.shape.columns
  }

  /// The same elements in the same order as a matrix of another shape.
  ///
  /// - Parameters:
  ///   - rows: Rows of the result.
  ///   - columns: Columns of the result; the product must stay the same.
  /// - Returns: The view.
  public func reshaped(rows: Int, columns: Int) -> Factor {
    precondition(
      rows * columns == self.rows * self.columns,
      "\(self.rows) x \(self.columns) cannot become \(rows) x \(columns)")
    return adding(.reshape(rows: rows, columns: columns), rows: rows, columns: columns)
  }

  /// The view with rows and columns exchanged.
  public func transposed() -> Factor {
    if case .transpose(let before, let across) = steps.last {
      var undone = self
      undone.steps.removeLast()
      (undone.rows, undone.columns) = (before, across)
      return undone
    }
    return adding(.transpose(rows: rows, columns: columns), rows: columns, columns: rows)
  }

  /// The view with each of the matrices that lie below each other in it transposed, still below each other.
  func transposed(matrices count: Int) -> Factor {
    precondition(count > 0 && rows.isMultiple(of: count), "\(rows) rows of \(count) matrices")
    let (height, width) = (rows / count, columns)
    return transposed().reshaped(rows: width * count, columns: height)
      .rows(in: (0..<count).flatMap { matrix in (0..<width).map { $0 * count + matrix } })
  }

  /// Some rows of the view.
  public func rows(_ range: Range<Int>) -> Factor {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(rows)")
    if range == 0..<rows { return self }
    return adding(.rows(range, columns: columns), rows: range.count, columns: columns)
  }

  /// The rows of the view in another order, or some of them.
  ///
  /// - Parameter order: For each row of the result, the row of the view.
  /// - Returns: The view.
  public func rows(in order: [Int]) -> Factor {
    precondition(order.allSatisfy { $0 >= 0 && $0 < rows }, "an order beyond \(rows) rows")
    return adding(.order(order, columns: columns), rows: order.count, columns: columns)
  }

  /// Some columns of the view.
  public func columns(_ range: Range<Int>) -> Factor {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= columns, "columns \(range) of \(columns)")
    if range == 0..<columns { return self }
    return adding(
      .columns(range, rows: rows, columns: columns), rows: rows, columns: range.count)
  }

  /// The view with the two halves of each group of rows interleaved, or parted again.
  func interleavingHalves(groups: Int, back: Bool) -> Factor {
    precondition(rows % (2 * groups) == 0, "\(rows) rows in \(groups) groups have no halves")
    let half = rows / groups / 2
    return rows(
      in: (0..<rows).map { row in
        let (group, place) = row.quotientAndRemainder(dividingBy: 2 * half)
        let from = back ? place % half * 2 + place / half : place % 2 * half + place / 2
        return group * 2 * half + from
      })
  }

  private func adding(_ step: Step, rows: Int, columns: Int) -> Factor {
    var view = self
    view.steps.append(step)
    view.rows = rows
    view.columns = columns
    return view
  }

  /// The stored dtype.
  public var dtype: DType { tensor.info.dtype }

  /// Elements of the view.
  public var count: Int { rows * columns }

  /// Whether the view's bytes are the tensor's bytes, in the same order.
  public var isPlain: Bool {
    steps.allSatisfy { if case .reshape = $0 { true } else { false } }
  }

  /// The view's elements in the stored dtype, row-major, little-endian: moved, never rounded.
  ///
  /// - Returns: `count` elements.
  /// - Throws: What reading throws, with file and tensor.
  /// - Complexity: O(*tensor*), or O(*view*) where the view is a range of the stored rows.
  public func bytes() throws(SurgeryError) -> [UInt8] {
    guard let size = dtype.bytesPerElement else {
      throw SurgeryError.unsupportedAdapter(
        "the factor's dtype cannot be read by element", file: tensor.source.file.path,
        key: tensor.name.text, found: dtype.name)
    }
    var remaining = steps[...]
    var range = 0..<tensor.info.shape.elementCount
    // Reshapes and row ranges at the start keep the elements contiguous, so only those are read.
    loop: while let step = remaining.first {
      switch step {
      case .reshape: break
      case .rows(let rows, let columns):
        let start = range.lowerBound + rows.lowerBound * columns
        range = start..<(start + rows.count * columns)
      case .transpose, .columns, .order: break loop
      }
      remaining = remaining.dropFirst()
    }
    var bytes = try tensor.bytes(of: (range.lowerBound * size)..<(range.upperBound * size))
    for step in remaining { bytes = step.moved(bytes, elementSize: size) }
    return bytes
  }

  /// The view's elements, widened.
  ///
  /// - Parameter scalar: `Float` or `Double`.
  /// - Returns: A matrix of `rows` by `columns`.
  /// - Throws: What reading throws; `adapter.dtype` where the dtype is no floating-point type; `adapter.non-finite`
  ///   with the tensor and the index.
  public func matrix<Scalar: BLASScalar>(
    of scalar: Scalar.Type
  ) throws(SurgeryError) -> Matrix<Scalar> {
    guard dtype.isFloatingPoint else { throw notFloating }
    let elements = [Scalar](widening: try bytes(), from: dtype)
    if let index = firstNonFinite(elements) {
      throw SurgeryError.adapter(
        "non-finite", "the adapter has a value that is not finite",
        file: tensor.source.file.path, key: tensor.name.text, expected: "finite values",
        found: "\(elements[index].isNaN ? "NaN" : "infinity") at element \(index)",
        hint: "nothing can be computed with it; get the adapter again from where it was trained")
    }
    return Matrix(rows: rows, columns: columns, elements: elements)
  }

  /// The error for parameters of which no rotation can be computed.
  var tooLargeToRotate: SurgeryError {
    .adapter(
      "rotation", "the parameters of a rotation are too large to compute it",
      file: tensor.source.file.path, key: tensor.name.text, expected: "values of about 1 or less",
      hint: "get the adapter again from where it was trained")
  }

  /// The error for a factor of integers.
  var notFloating: SurgeryError {
    .adapter(
      "dtype", "a factor must be of a floating-point type", file: tensor.source.file.path,
      key: tensor.name.text, expected: "F32, F16, BF16 or F64", found: dtype.name)
  }
}

extension Factor.Step {
  /// The bytes after this movement.
  func moved(_ bytes: [UInt8], elementSize size: Int) -> [UInt8] {
    switch self {
    case .reshape: return bytes
    case .rows(let range, let columns):
      return Array(
        bytes[(range.lowerBound * columns * size)..<(range.upperBound * columns * size)])
    case .columns(let range, let rows, let columns):
      var result: [UInt8] = []
      result.reserveCapacity(rows * range.count * size)
      for row in 0..<rows {
        let start = (row * columns + range.lowerBound) * size
        result += bytes[start..<(start + range.count * size)]
      }
      return result
    case .order(let order, let columns):
      var result: [UInt8] = []
      result.reserveCapacity(order.count * columns * size)
      for row in order { result += bytes[(row * columns * size)..<((row + 1) * columns * size)] }
      return result
    case .transpose(let rows, let columns):
      return switch size {
      case 1: transposedBytes(bytes, UInt8.self, rows: rows, columns: columns)
      case 2: transposedBytes(bytes, UInt16.self, rows: rows, columns: columns)
      case 4: transposedBytes(bytes, UInt32.self, rows: rows, columns: columns)
      default: transposedBytes(bytes, UInt64.self, rows: rows, columns: columns)
      }
    }
  }
}

extension StoredTensor {
  /// A range of the tensor's bytes.
  func bytes(of range: Range<Int>) throws(SurgeryError) -> [UInt8] {
    do throws(SurgeryError) {
      var bytes = [UInt8](repeating: 0, count: range.count)
      var reader = try source.makeReader()
      try bytes.withMutableRawSpan(0..<range.count) { (target) throws(SurgeryError) in
        try reader.read(at: range.lowerBound, into: &target)
      }
      return bytes
    } catch {
      throw explained(error)
    }
  }
}
