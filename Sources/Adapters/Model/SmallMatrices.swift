import LinearAlgebra

extension Matrix {
  /// The identity.
  static func identity(_ size: Int) -> Matrix {
    var result = Matrix(rows: size, columns: size)
    for i in 0..<size { result[i, i] = 1 }
    return result
  }

  /// Overwrites columns with those of a matrix of equal height.
  mutating func replaceColumns(from first: Int, with other: Matrix) {
    for row in 0..<rows {
      for column in 0..<other.columns { self[row, first + column] = other[row, column] }
    }
  }
}

extension Matrix<Double> {
  /// The skew-symmetric matrix `P - P'` of a square block that is stored as one row.
  ///
  /// - Parameters:
  ///   - stored: The matrix P of each block in a row of its own, row-major.
  ///   - block: The row.
  ///   - size: Rows and columns of the block.
  init(skewOf stored: Matrix<Double>, block: Int, size: Int) {
    self.init(rows: size, columns: size)
    for i in 0..<size {
      for j in 0..<size { self[i, j] = stored[block, i * size + j] - stored[block, j * size + i] }
    }
  }

  /// The rotation `(I + Q)(I - Q)⁻¹` of this skew-symmetric matrix Q (Cayley); `nil` where Q is so large that `I` is lost
  /// beside it.
  func cayleyRotation() -> Matrix? {
    let identity = Matrix.identity(rows)
    var (plus, minus) = (identity, identity)
    plus.add(self, times: 1)
    minus.add(self, times: -1)
    return minus.inverted().map { product(plus, $0) }
  }

  /// `(1 - strength) I + strength R` for this square matrix R: a rotation of which only a part is applied.
  func applied(strength: Double) -> Matrix {
    if strength == 1 { return self }
    var result = Matrix.identity(rows)
    result.scale(by: 1 - strength)
    result.add(self, times: strength)
    return result
  }

  /// The inverse by elimination with row pivots, for blocks of at most some hundred rows; `nil` where singular.
  func inverted() -> Matrix? {
    let size = rows
    var left = self
    var right = Matrix.identity(size)
    for column in 0..<size {
      let candidates = column..<size
      guard
        let pivot = candidates.max(by: {
          left[$0, column].magnitude < left[$1, column].magnitude
        }), left[pivot, column] != 0
      else { return nil }
      left.swapRows(pivot, column)
      right.swapRows(pivot, column)
      let divisor = left[column, column]
      for j in 0..<size {
        left[column, j] /= divisor
        right[column, j] /= divisor
      }
      for row in 0..<size where row != column {
        let factor = left[row, column]
        if factor == 0 { continue }
        for j in 0..<size {
          left[row, j] -= factor * left[column, j]
          right[row, j] -= factor * right[column, j]
        }
      }
    }
    return right
  }

  private mutating func swapRows(_ one: Int, _ other: Int) {
    if one == other { return }
    for j in 0..<columns {
      let value = self[one, j]
      self[one, j] = self[other, j]
      self[other, j] = value
    }
  }
}

extension [Matrix<Double>] {
  /// Scales all matrices so that the Frobenius norm of all together is at most this.
  mutating func limitNorm(to most: Double) {
    let norm = reduce(0) { $0 + $1.elements.reduce(0) { $0 + $1 * $1 } }.squareRoot()
    guard norm > most else { return }
    for index in indices { self[index].scale(by: most / norm) }
  }
}
