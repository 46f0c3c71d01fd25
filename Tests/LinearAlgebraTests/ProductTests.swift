@testable import LinearAlgebra
import Tensors
import Testing

@Suite struct ProductTests {
  @Test(arguments: [(30, 4, 50), (3, 8, 50), (40, 8, 5), (2, 6, 3), (5, 1, 5), (4, 0, 3)])
  func decomposesAProductWithoutFormingIt(out: Int, rank: Int, width: Int) throws {
    var random = TestRandom(UInt64(out))
    let factors = Factors(up: random.matrix(out, rank), down: random.matrix(rank, width))
    let dense = factors.delta()
    let truth = try trueValues(dense)
    let found = try ProductSVD(factors)
    #expect(found.singularValues.count == min(out, rank, width))
    for (value, expected) in zip(found.singularValues, truth) {
      #expect(abs(value - expected) < 1e-12 * truth[0])
    }
    #expect(deviationFromOrthonormal(found.right) < 1e-12)
    #expect(deviationFromOrthonormal(found.left) < 1e-12)
    let again = found.factors(rank: rank).delta()
    for (a, b) in zip(again.elements, dense.elements) { #expect(abs(a - b) < 1e-11) }
    #expect(found.factors(rank: 9).up.columns == 9)
  }

  @Test func truncatesToTheBestOfItsRankAndBalances() throws {
    var random = TestRandom(2)
    let factors = Factors(
      up: random.matrix(40, 6, scale: 100), down: random.matrix(6, 30, scale: 0.01))
    let truth = try trueValues(factors.delta())
    let cut = try ProductSVD(factors).factors(rank: 2)
    let left = zip(factors.delta().elements, cut.delta().elements).map { $0 - $1 }
    #expect(abs(energy(left) - energy(truth.dropFirst(2))) < 1e-10 * energy(truth))
    #expect(abs(energy(cut.up.elements) - energy(cut.down.elements)) < 1e-10)
  }

  @Test func refusesFactorsThatAreNotFinite() {
    var up = Matrix<Float>(rows: 3, columns: 2)
    up[1, 1] = .infinity
    let factors = Factors(up: up, down: Matrix(rows: 2, columns: 3))
    #expect { try ProductSVD(factors) } throws: { ($0 as? SurgeryError)?.id == "la.not-finite" }
  }

  /// Our kernels against OpenBLAS, at every remainder of their tiles.
  @Test(arguments: [1, 7, 8, 9, 16, 20, 24, 32, 33, 40, 56])
  func kernelsEqualBLAS(count: Int) {
    var random = TestRandom(UInt64(count))
    for (rows, columns) in [(1, 5), (7, 9), (49, 130), (97, 515)] {
      let block = random.matrix(rows, columns).converted(to: Float.self)
      let directions = random.matrix(count, columns).converted(to: Float.self)
      var results: [(images: Matrix<Float>, gram: Matrix<Float>)] = []
      for usingKernels in [true, false] {
        let thin = ThinProduct(directions, usingKernels: usingKernels)
        var images = [Float](repeating: 9, count: (rows + 2) * thin.stride)
        thin.writeImages(of: block.elements.span, rows: rows, to: &images, at: 1)
        #expect(images[..<thin.stride].allSatisfy { $0 == 9 })
        #expect(images[((rows + 1) * thin.stride)...].allSatisfy { $0 == 9 })
        var gram = thin.emptyGram()
        for _ in 0..<2 {
          thin.addGram(of: block.elements.span, rows: rows, images: images, at: 1, to: &gram)
        }
        let own = Array(images[thin.stride..<(rows + 1) * thin.stride])
        results.append((thin.unpadded(own, rows: rows), thin.gramRows(gram)))
      }
      let exact = product(
        block.converted(to: Double.self), directions.converted(to: Double.self),
        transposeSecond: true)
      for (a, b) in zip(results[0].images.elements, exact.elements) {
        #expect(abs(Double(a) - b) < 1e-3)
      }
      #expect(results[0].gram.rows == count && results[0].gram.columns == columns)
      for (a, b) in zip(results[0].gram.elements, results[1].gram.elements) {
        #expect(abs(a - b) < 2e-2)
      }
    }
  }

  @Test(arguments: [0, 1, 15, 16, 17, 100])
  func squaresAreSummedInDoublePrecision(count: Int) throws {
    var random = TestRandom(UInt64(count + 1))
    let values = (0..<count).map { _ in Float(random.normal()) * 1e25 }
    let truth = values.reduce(0) { $0 + Double($1) * Double($1) }
    #expect(abs(sumOfSquares(values.span) - truth) <= 1e-14 * truth)
  }
}
