import LinearAlgebra

// Loops over the rows and columns of a block, compiled for both precisions.

/// The Euclidean norm of every row, summed in double.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func rowNorms<Scalar: BLASScalar>(_ matrix: Matrix<Scalar>) -> [Double] {
  let elements = matrix.elements.span
  var norms = [Double](repeating: 0, count: matrix.rows)
  for row in 0..<matrix.rows {
    var sum = 0.0
    for column in 0..<matrix.columns {
      let value = Double(elements[row &* matrix.columns &+ column])
      sum += value * value
    }
    norms[row] = sum.squareRoot()
  }
  return norms
}

/// The Euclidean norm of every run of `size` columns, summed in double.
@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
func columnNorms<Scalar: BLASScalar>(_ matrix: Matrix<Scalar>, groupedBy size: Int) -> [Double] {
  let elements = matrix.elements.span
  var sums = [Double](repeating: 0, count: matrix.columns / size)
  for row in 0..<matrix.rows {
    for column in 0..<matrix.columns {
      let value = Double(elements[row &* matrix.columns &+ column])
      sums[column / size] += value * value
    }
  }
  return sums.map { $0.squareRoot() }
}

extension Matrix {
  /// Multiplies row *i* by the *i*-th factor.
  mutating func multiplyRows(by factors: [Scalar]) {
    let columns = columns
    withElements { scaleRows(&$0, columns: columns, by: factors) }
  }

  /// Multiplies column *j* by the *j*-th factor.
  mutating func multiplyColumns(by factors: [Scalar]) {
    let columns = columns
    withElements { scaleColumns(&$0, columns: columns, by: factors) }
  }

  /// Multiplies by a matrix of the same shape, element by element.
  mutating func multiply(by other: Matrix) {
    withElements { multiplyElements(of: &$0, by: other.elements.span) }
  }

  /// The matrix with every element turned by a function.
  func mapped(_ transform: (Scalar) -> Scalar) -> Matrix {
    Matrix(rows: rows, columns: columns, elements: elements.map(transform))
  }
}

@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func scaleRows<Scalar: BLASScalar>(
  _ elements: inout MutableSpan<Scalar>, columns: Int, by factors: [Scalar]
) {
  for row in factors.indices {
    for column in 0..<columns { elements[row &* columns &+ column] *= factors[row] }
  }
}

@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func scaleColumns<Scalar: BLASScalar>(
  _ elements: inout MutableSpan<Scalar>, columns: Int, by factors: [Scalar]
) {
  guard columns > 0 else { return }
  for row in 0..<(elements.count / columns) {
    for column in 0..<columns { elements[row &* columns &+ column] *= factors[column] }
  }
}
