import LinearAlgebra
import Tensors
import Testing

@Suite struct FitTests {
  /// Rounds to bfloat16 and back.
  static func roundToBF16(_ span: inout MutableSpan<Float>) {
    for i in span.indices {
      span[i] = FloatPatterns.widen(bf16: FloatPatterns.narrowToBF16(span[i]))
    }
  }

  static func residual(_ matrix: Matrix<Float>, _ up: Matrix<Float>, _ down: Matrix<Float>)
    -> Double
  {
    let approximation = product(up.converted(to: Double.self), down.converted(to: Double.self))
    let exact = matrix.converted(to: Double.self)
    return energy(zip(exact.elements, approximation.elements).map { $0 - $1 })
  }

  @Test(arguments: [UInt64(1), 2, 3])
  func statesTheTrueResidualAfterRounding(seed: UInt64) throws {
    var random = TestRandom(seed)
    let values = (1...30).map { 0.5 / Double($0) }
    var matrix = random.matrix(180, 140, values: values, noise: 1e-4).converted(to: Float.self)
    let found = try leadingSubspace(of: &matrix, target: .rank(6))
    var down = found.balancedDown()
    down.withElements { Self.roundToBF16(&$0) }
    let fitted = try fit(&matrix, down: down, squaredNorm: found.squaredNorm) {
      Self.roundToBF16(&$0)
    }
    let truth = Self.residual(matrix, fitted.up, down)
    #expect(abs(fitted.squaredResidual - truth) < 1e-5 * truth)
    #expect(fitted.capturedEnergy < energy(try trueValues(matrix).prefix(6)))
    // The fit to the rounded factor beats the exact factor that ignores the rounding.
    let ignoring = product(matrix, found.right, transposeSecond: true)
    var plain = ignoring
    for row in 0..<plain.rows {
      for column in 0..<plain.columns {
        plain[row, column] /= Float(found.singularValues[column].squareRoot())
      }
    }
    plain.withElements { Self.roundToBF16(&$0) }
    #expect(fitted.squaredResidual <= Self.residual(matrix, plain, down))
  }

  @Test func anInfiniteFactorCapturesNothing() throws {
    var matrix = Matrix<Float>(rows: 2, columns: 2, elements: [1, 2, 2, 4])
    let down = Matrix<Float>(rows: 1, columns: 2, elements: [1, 2])
    let fitted = try fit(&matrix, down: down) { up in
      for index in up.indices { up[index] = .infinity }
    }
    #expect(fitted.squaredResidual == 25 && fitted.relativeResidual == 1)
  }

  @Test func isTheLeastSquaresSolution() throws {
    var random = TestRandom(9)
    var matrix = random.matrix(50, 40)
    let down = random.matrix(5, 40)
    let fitted = try fit(&matrix, down: down)
    // The residual of a least-squares solution is orthogonal to every row of down.
    let approximation = product(fitted.up, down)
    let left = Matrix(
      rows: 50, columns: 40,
      elements: zip(matrix.elements, approximation.elements).map { $0 - $1 })
    let products = product(left, down, transposeSecond: true)
    #expect(products.elements.allSatisfy { abs($0) < 1e-10 })
    #expect(abs(fitted.squaredResidual - energy(left.elements)) < 1e-10)
  }

  @Test func dependentRowsOfDownDoNoHarm() throws {
    var random = TestRandom(10)
    var matrix = random.matrix(50, 40).converted(to: Float.self)
    let row = random.matrix(1, 40).converted(to: Float.self)
    let twice = Matrix(rows: 2, columns: 40, elements: row.elements + row.elements)
    let one = try fit(&matrix, down: row)
    let two = try fit(&matrix, down: twice)
    #expect(abs(one.squaredResidual - two.squaredResidual) < 1e-4 * one.squaredResidual)
  }

  @Test func exactlyLowRankLeavesAResidualNearTheRounding() throws {
    var random = TestRandom(4)
    let up = random.matrix(300, 8).converted(to: Float.self)
    let down = random.matrix(8, 200).converted(to: Float.self)
    var matrix = product(up, down)
    let found = try leadingSubspace(of: &matrix, target: .rank(8))
    let factor = found.balancedDown()
    let fitted = try fit(&matrix, down: factor)
    #expect(fitted.relativeResidual < 1e-6)
    let truth = (Self.residual(matrix, fitted.up, factor) / fitted.squaredNorm).squareRoot()
    #expect(abs(fitted.relativeResidual - truth) < 3e-7)
    // Half a percent of one element is far below the cancellation, and is still seen.
    var changed = matrix
    changed[17, 5] += 0.005 * Float(found.singularValues[0])
    let refitted = try fit(&changed, down: factor)
    let expected = (Self.residual(changed, refitted.up, factor) / refitted.squaredNorm).squareRoot()
    #expect(abs(refitted.relativeResidual - expected) < 0.01 * expected)
  }

  /// Sums of as many products of one sign as a row has elements round in one direction, which the fit must not keep.
  @Test(arguments: [1000, 30_000])
  func longRowsOfOneSignLeaveTheRoundingOfTheFactors(width: Int) throws {
    let value: Float = 0.0371
    let ones = [Float](repeating: 1, count: 40 * width)
    var matrix = Matrix(rows: 40, columns: width, elements: ones)
    let down = Matrix(rows: 1, columns: width, elements: [Float](repeating: value, count: width))
    let fitted = try fit(&matrix, down: down)
    let unit = Double(Float.ulpOfOne)
    #expect(fitted.relativeResidual <= unit)
    #expect(fitted.up.elements.allSatisfy { abs(Double($0) * Double(value) - 1) <= unit })
  }

  @Test func balancedFactorsHaveEqualNorms() throws {
    var random = TestRandom(6)
    var matrix = random.matrix(120, 90, values: [4, 2, 1], noise: 1e-3)
    let found = try leadingSubspace(of: &matrix, target: .rank(3))
    let down = found.balancedDown()
    let fitted = try fit(&matrix, down: down)
    let up = fitted.up.transposed()
    for row in 0..<3 {
      let norms = [down, up].map { factor in
        energy((0..<factor.columns).map { factor[row, $0] })
      }
      #expect(abs(norms[0] - norms[1]) < 1e-3 * norms[0])
    }
  }
}
