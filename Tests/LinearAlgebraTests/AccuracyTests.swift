import LinearAlgebra
import Tensors
import Testing

/// The energy that a search says is missing, against the truth by LAPACK.
@Suite struct AccuracyTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var values: [Double]
    var noise = 0.0
    var testDescription: String { name }
  }

  static let count = 200

  static let spectra: [Case] = [
    Case(name: "noise alone", values: [], noise: 1),
    Case(name: "flat", values: Array(repeating: 1, count: count)),
    Case(name: "power 0.3", values: decay(0.3)),
    Case(name: "power 0.7 with noise", values: decay(0.7), noise: 1e-3),
    Case(name: "power 1.5", values: decay(1.5)),
    Case(name: "power 3", values: decay(3)),
    Case(name: "exponential 0.5", values: (0..<40).map { power(2, Double(-$0)) }),
    Case(name: "exponential 0.95", values: (0..<count).map { power(1.05, Double(-$0)) }),
    Case(name: "clusters of 5", values: (0..<count).map { power(2, -Double($0 / 5)) }),
    Case(
      name: "cluster across the rank", values: [1] + Array(repeating: 0.5, count: 40), noise: 1e-3),
    Case(name: "step at 10", values: Array(repeating: 1, count: 10), noise: 1e-3),
    Case(name: "small step at 14", values: (0..<count).map { $0 < 14 ? 1 : 0.95 }),
    Case(name: "one dominant", values: [100] + decay(0.5)),
    Case(name: "two scales", values: decay(1).prefix(6) + decay(0.2).map { 1e-3 * $0 }),
  ]

  static func decay(_ exponent: Double) -> [Double] {
    (1...count).map { 1 / power(Double($0), exponent) }
  }

  @Test(arguments: spectra, [[420, 260], [240, 510], [1300, 230]])
  func whatIsStatedHolds(_ test: Case, shape: [Int]) throws {
    var random = TestRandom(UInt64(shape[0] + test.values.count))
    let matrix = random.matrix(shape[0], shape[1], values: test.values, noise: test.noise)
    let truth = try trueValues(matrix)
    for (rank, seed) in [(1, 1), (4, 2), (12, 3), (12, 4), (25, 5)] as [(Int, UInt64)] {
      try check(matrix, truth, rank: rank, seed: seed, rounding: 1e-12)
      try check(
        matrix.converted(to: Float.self), truth, rank: rank, seed: seed, rounding: 5e-7)
    }
  }

  private func check<Scalar>(
    _ matrix: Matrix<Scalar>, _ truth: [Double], rank: Int, seed: UInt64, rounding: Double
  ) throws {
    var options = SubspaceOptions()
    options.seed = seed
    options.exactOperations = 0
    // Both what is searched and what is decomposed by default has to hold.
    options.searchedShare = seed % 2 == 0 ? options.searchedShare : 1.0 / 3
    var source = matrix
    let found = try leadingSubspace(of: &source, target: .rank(rank), options: options)
    let best = energy(truth.prefix(rank))
    let residual = energy(truth.dropFirst(rank))
    let missing = best - capturedEnergy(matrix, by: found.right)
    let slack = rounding * (best + residual)
    #expect(missing <= 1e-4 * residual + slack, "rank \(rank) seed \(seed)")
    #expect(missing <= found.missingEnergy + slack, "rank \(rank) seed \(seed)")
    #expect(found.missingEnergy <= 1.001e-4 * residual + slack, "rank \(rank) seed \(seed)")
  }
}
