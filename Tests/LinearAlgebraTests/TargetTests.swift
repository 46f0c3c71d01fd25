import LinearAlgebra
import Tensors
import Testing

@Suite struct TargetTests {
  @Test(arguments: [0.5, 0.2, 0.05, 0.01, 0.001], [1.0 / 3, 1.0 / 12])
  func growsUntilTheResidualIsSmallEnough(fraction: Double, searchedShare: Double) throws {
    var random = TestRandom(1)
    let values = (1...80).map { 1 / Double($0).squareRoot() }
    let matrix = random.matrix(330, 260, values: values, noise: 1e-4).converted(to: Float.self)
    let truth = try trueValues(matrix)
    let total = energy(truth)
    let least = (0...truth.count).first { energy(truth.dropFirst($0)) <= fraction * total } ?? 0
    var source = matrix
    var options = SubspaceOptions()
    options.exactOperations = 0
    options.searchedShare = searchedShare
    let found = try leadingSubspace(
      of: &source, target: .residual(atMost: fraction), options: options)
    #expect(total - capturedEnergy(matrix, by: found.right) <= fraction * total * (1 + 1e-4))
    #expect(least...least + 1 ~= found.rank)
  }

  @Test func boundsHoldTheRank() throws {
    var random = TestRandom(2)
    var matrix = random.matrix(300, 300, values: (1...60).map { 1 / Double($0) }, noise: 1e-4)
    let many = try leadingSubspace(
      of: &matrix, target: .residual(atMost: 0.9, minimumRank: 7, maximumRank: 9))
    #expect(many.rank == 7)
    let few = try leadingSubspace(
      of: &matrix, target: .residual(atMost: 1e-9, minimumRank: 1, maximumRank: 9))
    #expect(few.rank == 9)
  }

  @Test func decomposesWhereNoSearchReachesTheAccuracy() throws {
    var random = TestRandom(3)
    let matrix = random.matrix(330, 280, values: (1...90).map { 1 / Double($0).squareRoot() })
    var source = matrix
    var options = SubspaceOptions()
    options.maximumPasses = 2
    options.accuracy = 0
    let found = try leadingSubspace(of: &source, target: .rank(5), options: options)
    #expect(found.method == .exactAfterSearch)
    let best = energy(try trueValues(matrix).prefix(5))
    #expect(abs(capturedEnergy(matrix, by: found.right) - best) < 1e-10 * best)
  }

  /// LAPACK does not fail on finite matrices, so its error is thrown while the first route reads.
  @Test(arguments: [ExactRoute.gram, .singularValues])
  func takesTheOtherRouteWhereOneDoesNotConverge(route: ExactRoute) throws {
    struct Stubborn: BlockedMatrix {
      typealias Scalar = Double
      var inner: Matrix<Double>
      var failures = 1
      var rows: Int { inner.rows }
      var columns: Int { inner.columns }
      mutating func forEachBlock(
        in range: Range<Int>,
        _ body: (_ firstRow: Int, _ block: Span<Double>) throws(SurgeryError) -> Void
      ) throws(SurgeryError) {
        if failures > 0 {
          failures -= 1
          throw SurgeryError(.unsupported, "la.not-converged", "forced")
        }
        try inner.forEachBlock(in: range, body)
      }
    }
    var random = TestRandom(4)
    var source = Stubborn(inner: random.matrix(30, 40))
    let truth = try trueValues(source.inner)
    let found = try exactDecomposition(of: &source, rank: 3, route: route)
    #expect(found.fellBack && found.route != route && found.passes >= 2)
    #expect(abs(found.singularValues[0] - truth[0]) < 1e-10 * truth[0])
    source.failures = 2
    #expect { try exactDecomposition(of: &source, rank: 3, route: route) } throws: {
      ($0 as? SurgeryError)?.id == "la.not-converged"
    }
  }

  @Test(arguments: [ExactRoute.gram, .singularValues])
  func exactRoutesAgree(route: ExactRoute) throws {
    for (rows, columns) in [(40, 30), (30, 40), (25, 25)] {
      var random = TestRandom(12)
      var matrix = random.matrix(rows, columns)
      let truth = try trueValues(matrix)
      let found = try exactDecomposition(of: &matrix, rank: 5, route: route)
      #expect(found.route == route)
      #expect(!found.fellBack)
      for (a, b) in zip(found.singularValues, truth) { #expect(abs(a - b) < 1e-7 * truth[0]) }
      #expect(deviationFromOrthonormal(found.right) < 1e-12)
      let best = energy(truth.prefix(5))
      #expect(abs(capturedEnergy(matrix, by: found.right) - best) < 1e-10 * best)
    }
  }
}
