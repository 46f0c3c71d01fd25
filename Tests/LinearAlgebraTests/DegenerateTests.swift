import LinearAlgebra
import Tensors
import Testing

/// Matrices at the edges of what can be asked.
@Suite struct DegenerateTests {
  static let large = 200

  @Test func zerosHaveNoSubspace() throws {
    for side in [3, Self.large] {
      var zeros = Matrix<Float>(rows: side, columns: side)
      let found = try leadingSubspace(of: &zeros, target: .rank(2))
      #expect(found.rank == 0)
      #expect(found.squaredNorm == 0)
      let fitted = try fit(&zeros, down: found.balancedDown(rank: 2))
      #expect(fitted.up == Matrix(rows: side, columns: 2))
      #expect(fitted.relativeResidual == 0)
    }
  }

  @Test(arguments: [(1, 1), (1, 300), (300, 1), (2, 300), (300, 2)])
  func oneRowOrColumn(rows: Int, columns: Int) throws {
    var random = TestRandom(3)
    let matrix = random.matrix(rows, columns)
    var single = matrix.converted(to: Float.self)
    let found = try leadingSubspace(of: &single, target: .rank(4))
    #expect(found.rank == min(rows, columns, 4))
    let fitted = try fit(&single, down: found.balancedDown())
    #expect(fitted.relativeResidual < 1e-6)
  }

  @Test func allElementsEqual() throws {
    var matrix = Matrix<Float>(
      rows: 150, columns: Self.large,
      elements: [Float](repeating: 0.25, count: 150 * Self.large))
    let found = try leadingSubspace(of: &matrix, target: .rank(3))
    #expect(found.rank == 1)
    #expect(abs(found.singularValues[0] - 0.25 * (150.0 * 200).squareRoot()) < 1e-4)
    let fitted = try fit(&matrix, down: found.balancedDown(rank: 3))
    #expect(fitted.relativeResidual < 5e-6)
    #expect((0..<150).allSatisfy { fitted.up[$0, 1] == 0 && fitted.up[$0, 2] == 0 })
  }

  @Test(arguments: [1e-41, 1e-30, 1e-12, 1, 1e12, 1e30, 1e36])
  func scaleDoesNotMatter(scale: Double) throws {
    var random = TestRandom(7)
    let unit = random.matrix(
      Self.large, Self.large, values: [3, 2, 1, 0.5, 0.1], noise: 1e-3)
    let matrix = Matrix(
      rows: unit.rows, columns: unit.columns, elements: unit.elements.map { Float($0 * scale) })
    let truth = try trueValues(matrix)
    var source = matrix
    var options = SubspaceOptions()
    options.exactOperations = 0
    let found = try leadingSubspace(of: &source, target: .rank(3), options: options)
    #expect(found.rank == 3)
    let best = energy(truth.prefix(3))
    let captured = capturedEnergy(matrix, by: found.right)
    #expect(captured >= best - 1e-4 * (energy(truth) - best) - 1e-6 * best)
    for (value, expected) in zip(found.singularValues, truth) {
      #expect(abs(value - expected) < 1e-3 * expected)
    }
  }

  @Test func hugeRangeOfSingularValues() throws {
    var random = TestRandom(11)
    let values = [1e3, 1, 1e-1, 1e-2, 5e-3]
    var double = random.matrix(256, 256, values: values)
    var single = double.converted(to: Float.self)
    let exact = try leadingSubspace(of: &double, target: .rank(5))
    #expect(try fit(&double, down: exact.balancedDown()).relativeResidual < 1e-9)
    let rounded = try leadingSubspace(of: &single, target: .rank(5))
    let fitted = try fit(&single, down: rounded.balancedDown())
    #expect(fitted.relativeResidual < 2e-6)
    let truth = try squaredResidual(of: &single, up: fitted.up, down: rounded.balancedDown())
    #expect(abs(fitted.squaredResidual - truth) <= 1e-6 * truth)
  }

  @Test(arguments: [(Float.nan, 777), (.infinity, 0), (-.infinity, 250 * 200 - 1)])
  func nonFiniteElementsAreRefusedWithTheirIndex(value: Float, index: Int) throws {
    var random = TestRandom(1)
    var matrix = random.matrix(250, 200).converted(to: Float.self)
    matrix[index / 200, index % 200] = value
    var blocks = CountingBlocks(matrix: matrix, rowsPerBlock: 19)
    let message = "element \(index) is not finite"
    var ids: [String] = []
    func refused(_ work: (inout CountingBlocks<Float>) throws(SurgeryError) -> Void) {
      do throws(SurgeryError) {
        try work(&blocks)
      } catch {
        if error.what == message { ids.append(error.id) }
      }
    }
    refused { source throws(SurgeryError) in
      _ = try leadingSubspace(of: &source, target: .rank(3))
    }
    refused { source throws(SurgeryError) in
      _ = try leadingSubspace(of: &source, target: .rank(90))
    }
    refused { source throws(SurgeryError) in
      _ = try exactDecomposition(of: &source, rank: 3, route: .singularValues)
    }
    refused { source throws(SurgeryError) in _ = try squaredNorm(of: &source) }
    refused { source throws(SurgeryError) in
      _ = try fit(&source, down: Matrix(rows: 1, columns: 200))
    }
    #expect(ids == [String](repeating: "la.not-finite", count: 5))
  }

  @Test(arguments: [1e200, 1e-200], [20, 300])
  func squaresBeyondFloat64AreRefused(scale: Double, side: Int) throws {
    var random = TestRandom(2)
    var matrix = random.matrix(side, side, scale: scale)
    #expect { try leadingSubspace(of: &matrix, target: .rank(3)) } throws: {
      ($0 as? SurgeryError)?.id == "la.range"
    }
    #expect { try squaredNorm(of: &matrix) } throws: { ($0 as? SurgeryError)?.id == "la.range" }
    // One element whose square vanishes beside others is as good as zero.
    var mixed = random.matrix(side, side)
    mixed[0, 0] = 1e-200
    #expect(try leadingSubspace(of: &mixed, target: .rank(3)).rank == 3)
  }

  @Test func errorsOfTheSourceComeThrough() {
    struct Broken: BlockedMatrix {
      typealias Scalar = Float
      let rows = 200
      let columns = 200
      mutating func forEachBlock(
        in range: Range<Int>,
        _ body: (_ firstRow: Int, _ block: Span<Float>) throws(SurgeryError) -> Void
      ) throws(SurgeryError) { throw SurgeryError(.io, "test.read", "reading failed") }
    }
    var broken = Broken()
    #expect(throws: SurgeryError(.io, "test.read", "reading failed")) {
      try leadingSubspace(of: &broken, target: .rank(2))
    }
  }
}
