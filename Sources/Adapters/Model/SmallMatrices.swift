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
