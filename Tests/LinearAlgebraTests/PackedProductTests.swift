import LinearAlgebra
import Tensors
import Testing

/// Product, addition and rounding in one pass, against float64 and against the two passes.
@Suite struct PackedProductTests {
  /// How the elements before relate to the delta.
  enum Base: CaseIterable {
    case large, zero, cancelling, nearlyCancelling
  }

  private struct Case {
    let rows: Int
    let columns: Int
    let factor: Double
    let product: PackedProduct<Float>
    let delta: [Double]
    /// The sums of the terms' magnitudes.
    let magnitudes: [Double]
    let source: [UInt8]

    init(_ rows: Int, _ columns: Int, rank: Int, _ base: Base, _ dtype: DType, seed: UInt64) {
      var random = TestRandom(seed)
      let (up, down) = (
        random.matrix(rows, rank).converted(to: Float.self),
        random.matrix(rank, columns).converted(to: Float.self)
      )
      (self.rows, self.columns) = (rows, columns)
      let factor = -1.75
      self.factor = factor
      product = PackedProduct(up: up, down: down)
      var delta = [Double](repeating: 0, count: rows * columns)
      var magnitudes = delta
      for row in 0..<rows {
        for k in 0..<rank {
          let value = factor * Double(up[row, k])
          for column in 0..<columns {
            delta[row * columns + column] += value * Double(down[k, column])
            magnitudes[row * columns + column] += abs(value * Double(down[k, column]))
          }
        }
      }
      self.delta = delta
      self.magnitudes = magnitudes
      let noise = random.matrix(rows, columns).elements
      let before = zip(delta, noise).map { delta, noise -> Double in
        switch base {
        case .large: return 30 * noise
        case .zero: return 0
        case .cancelling: return -delta
        case .nearlyCancelling: return -delta * (1 + 0x1p-9 * noise)
        }
      }
      source = narrowed(before, dtype)
    }

    func merged(_ dtype: DType, rows: Range<Int>) -> (bytes: [UInt8], sums: AdditionSums)? {
      let part = rows.lowerBound * columns * 2..<rows.upperBound * columns * 2
      var bytes = [UInt8](repeating: 0, count: part.count)
      var span = bytes.mutableSpan
      var raw = span.mutableBytes
      guard
        let sums = product.add(
          to: source.span.bytes.extracting(part), of: dtype, into: &raw, rows: rows, times: factor)
      else { return nil }
      return (bytes, sums)
    }
  }

  @Test(
    arguments: [DType.bf16, .f16],
    [(1, 1, 1), (5, 17, 3), (17, 260, 16), (2, 512, 64), (20, 20, 0)])
  func noSumIsFurtherThanAUnitOrItsDeltasRounding(dtype: DType, size: (Int, Int, Int)) throws {
    for (seed, base) in Base.allCases.enumerated() {
      let own = Case(size.0, size.1, rank: size.2, base, dtype, seed: UInt64(seed))
      let (bytes, sums) = try #require(own.merged(dtype, rows: 0..<own.rows))
      let before = widened(own.source, dtype)
      let exact = zip(before, own.delta).map { $0 + $1 }
      let expected = ordered(narrowed(exact, dtype))
      let actual = ordered(bytes)
      let distances = zip(actual, expected).map { abs($0 - $1) }
      // A delta is a sum of floats: where base and delta cancel, its rounding (Higham 2002, section 3.1) may be more than a unit.
      let errors = zip(widened(bytes, dtype), exact).map { abs($0 - $1) }
      let allowed = own.magnitudes.map { Double(size.2 + 2) * 0x1p-24 * $0 }
      #expect(
        zip(distances, zip(errors, allowed)).allSatisfy { $0 <= 1 || $1.0 <= 2 * $1.1 }, "\(base)")
      // Where every sum cancels, more may round to the neighbour.
      if base == .large || base == .zero {
        #expect(distances.count { $0 > 0 } <= distances.count / 1000 + 1, "\(base)")
      }
      let after = widened(bytes, dtype)
      let changed = stride(from: 0, to: bytes.count, by: 2).count { start in
        bytes[start..<start + 2] != own.source[start..<start + 2]
      }
      #expect(sums.changed == changed)
      let reference = ElementConversion.sums(
        before: before.span, exact: exact.span, after: after.span)
      #expect(isClose(sums.squaredWeight, reference.squaredWeight))
      #expect(isClose(sums.squaredDelta, reference.squaredDelta))
      #expect(isClose(sums.kept, reference.kept))
    }
  }

  @Test(arguments: [DType.bf16, .f16]) func rowsAreTheSameAlone(dtype: DType) throws {
    let own = Case(40, 300, rank: 16, .nearlyCancelling, dtype, seed: 9)
    let whole = try #require(own.merged(dtype, rows: 0..<40)).bytes
    let parts = try [0..<3, 3..<24, 24..<40].flatMap {
      try #require(own.merged(dtype, rows: $0)).bytes
    }
    #expect(parts == whole)
  }

  /// Single precision gives the bits of product and addition one after the other.
  @Test func onePassEqualsTwo() throws {
    let own = Case(19, 530, rank: 16, .large, .bf16, seed: 11)
    let (bytes, sums) = try #require(own.merged(.bf16, rows: 0..<own.rows))
    var delta = Matrix<Float>(rows: own.rows, columns: own.columns)
    own.product.add(to: &delta, rows: 0..<own.rows, columns: 0..<own.columns, times: -1.75)
    var separate = [UInt8](repeating: 0, count: bytes.count)
    var span = separate.mutableSpan
    var raw = span.mutableBytes
    let separateSums = try #require(
      ElementConversion.add(
        delta.elements.span, to: own.source.span.bytes, of: .bf16, into: &raw))
    #expect(bytes == separate)
    #expect(sums.changed == separateSums.changed)
    #expect(isClose(sums.kept, separateSums.kept))
  }

  @Test func doublePrecisionRoundsOnce() throws {
    var random = TestRandom(12)
    let (up, down) = (random.matrix(18, 5), random.matrix(5, 140))
    let source = random.matrix(18, 140).elements.map { Float($0) }
    let product = PackedProduct(up: up, down: down)
    var result = [Float](repeating: 0, count: source.count)
    var span = result.mutableSpan
    var raw = span.mutableBytes
    let sums = try #require(
      product.add(to: source.span.bytes, of: .f32, into: &raw, rows: 0..<18, times: 0.5))
    for row in 0..<18 {
      for column in 0..<140 {
        let delta = (0..<5).reduce(0.0) { $0 + up[row, $1] * down[$1, column] }
        let expected = Float(Double(source[row * 140 + column]) + 0.5 * delta)
        #expect(abs(result[row * 140 + column] - expected) <= expected.ulp)
      }
    }
    #expect(sums.changed > 2000 && sums.nonFinite == 0)
  }

  @Test func whatIsNoNumberIsCountedAndKept() throws {
    let own = Case(17, 270, rank: 4, .large, .bf16, seed: 13)
    var source = own.source
    let strange: [(Int, UInt16)] = [(3, 0x7F80), (300, 0xFF80), (4000, 0x7FC1), (4589, 0x7FFF)]
    for (index, pattern) in strange {
      source[2 * index] = UInt8(pattern & 0xFF)
      source[2 * index + 1] = UInt8(pattern >> 8)
    }
    var (bytes, halves) = (source, source)
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    var spanOfHalves = halves.mutableSpan
    var rawHalves = spanOfHalves.mutableBytes
    let sums = try #require(
      own.product.add(to: source.span.bytes, of: .bf16, into: &raw, rows: 0..<17, times: 1))
    let overflowing = try #require(
      own.product.add(
        to: own.source.span.bytes, of: .f16, into: &rawHalves, rows: 0..<17, times: 1e9))
    #expect(overflowing.loss.overflowed > 4000)
    #expect(sums.nonFinite == 4 && sums.loss.overflowed == 0)
    for (index, _) in strange {
      #expect(
        bytes[2 * index] == source[2 * index] && bytes[2 * index + 1] == source[2 * index + 1])
    }
  }
}

private func isClose(_ first: Double, _ second: Double) -> Bool {
  abs(first - second) <= 1e-4 * max(abs(first), abs(second)) + 1e-30
}

private func narrowed(_ values: [Double], _ dtype: DType) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 2 * values.count)
  var span = bytes.mutableSpan
  var raw = span.mutableBytes
  _ = ElementConversion.narrow(values.span, to: dtype, into: &raw)
  return bytes
}

private func widened(_ bytes: [UInt8], _ dtype: DType) -> [Double] {
  var values = [Double](repeating: 0, count: bytes.count / 2)
  var span = values.mutableSpan
  ElementConversion.widen(bytes.span.bytes, from: dtype, into: &span)
  return values
}

/// Patterns of 16 bits in the order of their values; both zeros are 0.
private func ordered(_ bytes: [UInt8]) -> [Int] {
  stride(from: 0, to: bytes.count, by: 2).map { start in
    let bits = Int(bytes[start]) | Int(bytes[start + 1]) << 8
    return bits & 0x8000 == 0 ? bits : -(bits & 0x7FFF)
  }
}
