internal import Tensors

/// An orthonormal basis of right vectors with what the matrix `G = D'D` does to it.
///
/// The projection of G is formed from the images under D in float64, not from G itself, so that singular values
/// down to the precision of the elements, not its square root, are told apart.
struct RitzBasis<Scalar: BLASScalar> {
  /// One basis vector a row.
  private(set) var basis: Matrix<Scalar>
  /// G times each basis vector, one a row.
  private(set) var gram: Matrix<Scalar>
  /// D times the basis vectors, one a column, in the groups in which they were added.
  private var images: [Matrix<Scalar>] = []
  /// The projection of G on the basis.
  private(set) var projected = Matrix<Double>(rows: 0, columns: 0)

  init(columns: Int) {
    basis = Matrix(rows: 0, columns: columns)
    gram = Matrix(rows: 0, columns: columns)
  }

  /// The length of the vectors.
  var columns: Int { basis.columns }

  /// Number of basis vectors.
  var count: Int { basis.rows }

  /// Adds orthonormal directions, orthogonal to the basis, and what a pass over the matrix gave for them.
  mutating func append(_ directions: Matrix<Scalar>, _ pass: GramPass<Scalar>) {
    let old = count
    basis = basis.appending(directions)
    gram = gram.appending(pass.gram)
    images.append(pass.images)
    var wider = Matrix<Double>(rows: count, columns: count)
    for i in 0..<old { for j in 0..<old { wider[i, j] = projected[i, j] } }
    var first = 0
    for image in images {
      let block = columnProducts(
        image.elements.span, columnsA: image.columns, pass.images.elements.span,
        columnsB: directions.rows, rows: image.rows)
      for i in 0..<image.columns {
        for j in 0..<directions.rows {
          wider[first + i, old + j] = block[i * directions.rows + j]
          wider[old + j, first + i] = block[i * directions.rows + j]
        }
      }
      first += image.columns
    }
    projected = wider
  }

  /// The Ritz values, estimates of squared singular values from below, with their coefficients in the basis.
  func eigenpairs() throws(SurgeryError) -> Eigenpairs<Double> {
    var pairs = try symmetricEigenpairs(projected)
    for i in pairs.values.indices { pairs.values[i] = max(0, pairs.values[i]) }
    return pairs
  }

  /// The energy that orthonormal vectors capture, as far as they lie in the span of the basis.
  func capturedEnergy(by vectors: Matrix<Scalar>) -> Double {
    let coefficients = product(vectors, basis, transposeSecond: true).converted(to: Double.self)
    return innerProduct(
      product(coefficients, projected).elements.span, coefficients.elements.span)
  }

  /// The Ritz vectors and the residuals `G v - θ v` of the first eigenpairs, one a row.
  func ritzVectors(_ pairs: Eigenpairs<Double>, count: Int) -> (
    vectors: Matrix<Scalar>, residuals: Matrix<Scalar>
  ) {
    let coefficients = pairs.vectors.prefix(count).converted(to: Scalar.self)
    let vectors = product(coefficients, basis)
    var residuals = product(coefficients, gram).elements
    let width = basis.columns
    for row in 0..<vectors.rows {
      add(
        -Scalar(pairs.values[row]), vectors.elements.span, row * width, to: &residuals,
        row * width, count: width)
    }
    return (vectors, Matrix(rows: vectors.rows, columns: width, elements: residuals))
  }

  /// Orthonormal directions, orthogonal to the basis, that span with it what it spans with the candidates.
  ///
  /// Candidates that add nothing beyond rounding are left out.
  func complement(of candidates: Matrix<Scalar>) throws(SurgeryError) -> Matrix<Scalar> {
    var directions = normalisedRows(candidates)
    directions = directions.prefix(max(0, basis.columns - count))
    // One projection leaves rounding noise that normalising may blow up; "twice is enough" (Parlett) unless a
    // candidate lay in the span itself, which shows in the diagonal of the triangular factor.
    for _ in 0..<4 {
      guard directions.rows > 0 else { break }
      if count > 0 {
        let coefficients = product(directions, basis, transposeSecond: true)
        var reduced = directions.elements
        multiply(
          coefficients.elements.span, transposed: false, basis.elements.span, transposed: false,
          m: directions.rows, n: basis.columns, inner: count, alpha: -1, beta: 1, into: &reduced)
        directions = Matrix(
          rows: directions.rows, columns: basis.columns, elements: reduced)
      }
      let (orthonormal, factor) = try orthonormalRows(directions)
      directions = orthonormal
      if (0..<factor.rows).allSatisfy({ factor[$0, $0].magnitude > 0.5 }) { break }
    }
    return directions
  }
}

/// The rows scaled to length one; rows of zeros are left out.
func normalisedRows<Scalar: BLASScalar>(_ matrix: Matrix<Scalar>) -> Matrix<Scalar> {
  let width = matrix.columns
  var elements: [Scalar] = []
  elements.reserveCapacity(matrix.elements.count)
  for row in 0..<matrix.rows {
    let source = matrix.elements.span.extracting(row * width..<(row + 1) * width)
    let norm = sumOfSquares(source).squareRoot()
    guard norm > 0 else { continue }
    append(source, to: &elements)
    scale(&elements, elements.count - width..<elements.count, by: Scalar(1 / norm))
  }
  return Matrix(rows: width == 0 ? 0 : elements.count / width, columns: width, elements: elements)
}
