import LinearAlgebra
import Tensors
import Testing

@Suite struct LeadingSubspaceTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var rows: Int
    var columns: Int
    var values: [Double]
    var noise: Double
    var rank: Int
    var testDescription: String { "\(rows)x\(columns) rank \(rank), \(values.count) values" }
  }

  static let cases: [Case] = [
    Case(rows: 300, columns: 200, values: decay(40, 0.7), noise: 1e-3, rank: 8),
    Case(rows: 120, columns: 400, values: decay(60, 0.5), noise: 1e-3, rank: 4),
    Case(rows: 700, columns: 150, values: decay(100, 1.5), noise: 0, rank: 10),
    Case(rows: 256, columns: 256, values: [1, 1, 1, 1, 1, 1, 1, 1], noise: 1e-4, rank: 4),
    Case(rows: 256, columns: 256, values: [], noise: 1, rank: 6),
    Case(rows: 40, columns: 900, values: decay(30, 1), noise: 1e-3, rank: 16),
    Case(rows: 9, columns: 7, values: decay(7, 1), noise: 0, rank: 3),
  ]

  static func decay(_ count: Int, _ exponent: Double) -> [Double] {
    (1...count).map { 1 / power(Double($0), exponent) }
  }

  @Test(arguments: cases, [UInt64(1), 2, 3])
  func capturesTheOptimumWithinTheAccuracy(_ test: Case, seed: UInt64) throws {
    var random = TestRandom(seed)
    let matrix = random.matrix(test.rows, test.columns, values: test.values, noise: test.noise)
    try check(matrix, rank: test.rank, slack: 1e-12)
    try check(matrix.converted(to: Float.self), rank: test.rank, slack: 1e-6)
  }

  private func check<Scalar>(_ matrix: Matrix<Scalar>, rank: Int, slack: Double) throws {
    let truth = try trueValues(matrix)
    let best = energy(truth.prefix(rank))
    let residual = energy(truth.dropFirst(rank))
    var blocks = CountingBlocks(matrix: matrix, rowsPerBlock: 37)
    var options = SubspaceOptions()
    options.exactOperations = 0
    let found = try leadingSubspace(of: &blocks, target: .rank(rank), options: options)
    #expect(found.rank == rank)
    #expect(blocks.rowsRead == found.passes * matrix.rows)
    #expect(abs(found.squaredNorm - energy(truth)) <= slack * energy(truth))
    let captured = capturedEnergy(matrix, by: found.right)
    #expect(captured >= best - 1e-4 * residual - slack * best)
    #expect(captured <= best * (1 + slack))
    #expect(deviationFromOrthonormal(found.right) < 10 * slack)
  }

  @Test func sameInputGivesTheSameBits() throws {
    var random = TestRandom(5)
    let matrix = random.matrix(400, 300, values: Self.decay(50, 0.7), noise: 1e-3)
      .converted(to: Float.self)
    var whole = CountingBlocks(matrix: matrix, rowsPerBlock: 400)
    var again = CountingBlocks(matrix: matrix, rowsPerBlock: 400)
    let first = try leadingSubspace(of: &whole, target: .rank(8))
    let second = try leadingSubspace(of: &again, target: .rank(8))
    #expect(first.right == second.right)
    #expect(first.singularValues == second.singularValues)
  }
}
