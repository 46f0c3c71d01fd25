public import Tensors

/// The best `up` for a given `down`, and what both leave of the matrix.
public struct Fit<Scalar: BLASScalar>: Sendable {
  /// `rows x rank`, as the rounding left it.
  public var up: Matrix<Scalar>
  /// The squared Frobenius norm of the matrix, accumulated in float64.
  public var squaredNorm: Double
  /// The squared Frobenius norm of what is left: `|D - up · down|²` with both factors rounded; never negative.
  public var squaredResidual: Double

  /// The energy captured; negative where the factors, rounded, are worse than none.
  public var capturedEnergy: Double { squaredNorm - squaredResidual }

  /// The Frobenius norm of what is left, relative to that of the matrix; 0 for a matrix of zeros.
  public var relativeResidual: Double {
    squaredNorm > 0 ? (squaredResidual / squaredNorm).squareRoot() : 0
  }
}

/// Fits `up` to a matrix and a `down` that is already rounded, in one reading.
///
/// `up = D down' (down down')⁻¹` is the least-squares solution, so it absorbs what rounding `down` lost. Each block of
/// rows is rounded as soon as it is solved, so the same reading gives the residual of the rounded pair. That residual is
/// `|D|² - <up, 2 D down' - up down down'>`, in float64 but for the products with D. Where it comes out
/// below a hundredth of the norm or so, cancellation may have eaten it, and one more reading sums `|D - up · down|²` itself.
/// Where even that is no more than the rounding of sums as long as a row may have made, `up` is corrected by the fit to what it
/// leaves, in two more readings. The floor is the rounding of the factors, about 1e-7 of the norm in float32 and 1e-14 in float64.
///
/// - Parameters:
///   - matrix: The matrix D, of finite elements.
///   - down: `rank x columns`, as it will be stored; rows of zeros get columns of zeros.
///   - squaredNorm: The squared Frobenius norm, where it is known from a ``LeadingSubspace``.
///   - round: Rounds whole rows of `up`, row-major, to the storage type, in place; called for every row, in order, and once more
///     where `up` is corrected.
/// - Returns: `up` with the energies.
/// - Throws: What reading the matrix or rounding throws; `la.not-finite` if an element is not finite.
/// - Complexity: O(*rows* · *columns* · *rank*) time; memory for both factors and two blocks.
public func fit<Source: BlockedMatrix>(
  _ matrix: inout Source, down: Matrix<Source.Scalar>, squaredNorm: Double? = nil,
  round: (_ up: inout MutableSpan<Source.Scalar>) throws(SurgeryError) -> Void = { _ in }
) throws(SurgeryError) -> Fit<Source.Scalar> {
  let (width, rank) = (matrix.columns, down.rows)
  precondition(down.columns == width, "down has \(down.columns) columns, the matrix \(width)")
  let conditioned = Conditioned(down)
  let downGram = rowProducts(conditioned.rows)
  let inverse = try pseudoInverse(downGram)
  let thin = ThinProduct(conditioned.rows)
  var up: [Source.Scalar] = []
  up.reserveCapacity(matrix.rows * rank)
  var (energy, captured) = (0.0, 0.0)
  var images: [Source.Scalar] = []
  func solve(_ chunk: Span<Source.Scalar>, rows: Int) -> (images: [Double], up: [Source.Scalar]) {
    if images.count != rows * thin.stride {
      images = zeros(rows * thin.stride, of: Source.Scalar.self)
    }
    thin.writeImages(of: chunk, rows: rows, to: &images, at: 0)
    let exact = thin.unpadded(images, rows: rows).converted(to: Double.self).elements
    var solved = [Double](repeating: 0, count: rows * rank)
    multiply(
      exact.span, transposed: false, inverse.elements.span, transposed: false, m: rows, n: rank,
      inner: rank, into: &solved)
    return (exact, conditioned.up(from: solved))
  }
  try matrix.forEachChunk { (first, rows, chunk) throws(SurgeryError) in
    if squaredNorm == nil { energy += try finiteSquares(of: chunk, at: first * width) }
    guard rank > 0 else { return }
    let solved = solve(chunk, rows: rows)
    var rounded = solved.up
    var span = rounded.mutableSpan
    try round(&span)
    captured += conditioned.captured(rounded, images: solved.images, gram: downGram, rows: rows)
    append(rounded.span, to: &up)
  }
  let total = squaredNorm ?? energy
  var factor = Matrix(rows: matrix.rows, columns: rank, elements: up)
  var residual = total - captured
  // Sums of products of one sign round in one direction: their error grows with their length.
  let rounding = Double(Source.Scalar.ulpOfOne) * Double(width)
  if residual < max(1e-4, rounding) * total, rank > 0 {
    residual = try squaredResidual(of: &matrix, up: factor, down: down)
    if residual > 0, residual <= rounding * rounding * total {
      var corrected: [Source.Scalar] = []
      corrected.reserveCapacity(up.count)
      try matrix.forEachRemainder(of: factor, down) { (first, rows, left) throws(SurgeryError) in
        var next = solve(left, rows: rows).up
        for index in next.indices { next[index] += up[first * rank + index] }
        var span = next.mutableSpan
        try round(&span)
        append(next.span, to: &corrected)
      }
      let other = Matrix(rows: matrix.rows, columns: rank, elements: corrected)
      let smaller = try squaredResidual(of: &matrix, up: other, down: down)
      if smaller < residual { (factor, residual) = (other, smaller) }
    }
  }
  // Where rounding made a factor infinite, nothing is captured.
  return Fit(
    up: factor, squaredNorm: total, squaredResidual: residual.isFinite ? max(0, residual) : total)
}

/// The squared Frobenius norm of `D - up · down`, formed block by block and summed in float64.
///
/// - Parameters:
///   - matrix: The matrix D; it is read once.
///   - up: `rows x rank`.
///   - down: `rank x columns`.
/// - Returns: The squared norm; its floor is the rounding of the products.
/// - Throws: What reading throws, or `la.not-finite`.
public func squaredResidual<Source: BlockedMatrix>(
  of matrix: inout Source, up: Matrix<Source.Scalar>, down: Matrix<Source.Scalar>
) throws(SurgeryError) -> Double {
  let width = matrix.columns
  var sum = 0.0
  try matrix.forEachRemainder(of: up, down) { (first, _, remainder) throws(SurgeryError) in
    sum += try finiteSquares(of: remainder, at: first * width)
  }
  return sum
}

extension BlockedMatrix {
  /// Reads the matrix and lends what two factors leave of it, `D - up · down`, chunk by chunk.
  fileprivate mutating func forEachRemainder(
    of up: Matrix<Scalar>, _ down: Matrix<Scalar>,
    _ body: (_ firstRow: Int, _ count: Int, _ remainder: Span<Scalar>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    let (width, rank) = (columns, down.rows)
    precondition(
      up.rows == rows && up.columns == rank && down.columns == width,
      "the factors do not fit the matrix")
    var remainder: [Scalar] = []
    try forEachChunk { (first, rows, chunk) throws(SurgeryError) in
      remainder.removeAll(keepingCapacity: true)
      append(chunk, to: &remainder)
      multiply(
        up.elements.span.extracting(first * rank..<(first + rows) * rank), transposed: false,
        down.elements.span, transposed: false, m: rows, n: width, inner: rank, alpha: -1, beta: 1,
        into: &remainder)
      try body(first, rows, remainder.span)
    }
  }
}

/// A `down` factor with each row scaled by a power of two to a norm near one, so that products with it neither
/// overflow nor vanish; the scales are exact and are undone in `up`.
private struct Conditioned<Scalar: BLASScalar> {
  let rows: Matrix<Scalar>
  private let scales: [Double]

  init(_ down: Matrix<Scalar>) {
    let width = down.columns
    var elements = down.elements
    var scales: [Double] = []
    for row in 0..<down.rows {
      let range = row * width..<(row + 1) * width
      let norm = sumOfSquares(down.elements.span.extracting(range)).squareRoot()
      let exponent = norm > 0 && norm.isFinite ? min(120, max(-120, -Int(norm.exponent))) : 0
      let factor = Double(sign: .plus, exponent: exponent, significand: 1)
      scale(&elements, range, by: Scalar(factor))
      scales.append(factor)
    }
    self.scales = scales
    rows = Matrix(rows: down.rows, columns: width, elements: elements)
  }

  /// Coefficients of the scaled rows turned into coefficients of the rows themselves.
  func up(from solved: [Double]) -> [Scalar] {
    unscaled(solved.span, by: scales.span, to: Scalar.self)
  }

  /// `<up, 2 D down' - up down down'>` for some rows.
  func captured(_ up: [Scalar], images: [Double], gram: Matrix<Double>, rows count: Int) -> Double {
    let rank = scales.count
    let inverses = scales.map { 1 / $0 }
    let coefficients = unscaled(up.span, by: inverses.span, to: Double.self)
    var difference = images
    multiply(
      coefficients.span, transposed: false, gram.elements.span, transposed: false, m: count,
      n: rank, inner: rank, alpha: -1, beta: 2, into: &difference)
    return innerProduct(coefficients.span, difference.span)
  }
}
