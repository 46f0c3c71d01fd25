import LinearAlgebra
import Tensors
import Testing

/// Nearly exact low rank: what is left is far below the leading directions, and is still captured as well as can be.
@Suite struct LowRankNoiseTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var rows: Int
    var columns: Int
    var planted: Int
    /// The smallest planted singular value, relative to the largest.
    var smallest: Double
    /// The norm of the noise, relative to the largest singular value.
    var noise: Double
    var testDescription: String {
      "\(rows)x\(columns) planted \(planted) down to \(smallest), noise \(noise)"
    }
  }

  static let cases: [Case] = [
    Case(rows: 640, columns: 520, planted: 8, smallest: 1e-1, noise: 1e-3),
    Case(rows: 640, columns: 520, planted: 8, smallest: 1e-3, noise: 1e-5),
    Case(rows: 400, columns: 900, planted: 8, smallest: 1e-5, noise: 1e-6),
    Case(rows: 900, columns: 400, planted: 12, smallest: 1e-6, noise: 1e-7),
    Case(rows: 500, columns: 500, planted: 4, smallest: 1, noise: 1e-5),
    Case(rows: 500, columns: 500, planted: 3, smallest: 1e-4, noise: 0),
    Case(rows: 172, columns: 64, planted: 8, smallest: 1e-2, noise: 1e-4),
  ]

  @Test(arguments: cases)
  func isCapturedAsWellAsCanBe(_ test: Case) throws {
    var random = TestRandom(UInt64(test.rows + test.planted))
    let values = (0..<test.planted).map { index in
      power(1 / test.smallest, Double(test.planted - 1 - index) / Double(test.planted - 1))
        * test.smallest
    }
    let noise = test.noise / Double(test.rows * test.columns).squareRoot()
    let matrix = random.matrix(test.rows, test.columns, values: values, noise: noise)
      .converted(to: Float.self)
    let truth = try trueValues(matrix)
    let norm = energy(truth).squareRoot()
    for rank in [1, test.planted / 2, test.planted, test.planted + 4] {
      var source = matrix
      let found = try leadingSubspace(of: &source, target: .rank(rank))
      let fitted = try fit(
        &source, down: found.balancedDown(rank: rank), squaredNorm: found.squaredNorm)
      let residual = try squaredResidual(
        of: &source, up: fitted.up, down: found.balancedDown(rank: rank)
      ).squareRoot()
      let best = energy(truth.dropFirst(rank)).squareRoot()
      #expect(residual <= 1.005 * best + 3e-6 * norm, "rank \(rank)")
      #expect(abs(fitted.squaredResidual.squareRoot() - residual) <= 1e-2 * best + 1e-6 * norm)
    }
  }
}
