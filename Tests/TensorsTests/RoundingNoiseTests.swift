import Tensors
import Testing

/// The predicted variance of rounding is that of real rounding errors.
@Suite struct RoundingNoiseTests {
  @Test(arguments: [DType.bf16, .f16, .f8e4m3, .f8e5m2], [0.023, 1.3, 29])
  func isThatOfTheErrors(dtype: DType, scale: Double) throws {
    var random = SeededGenerator(state: 31)
    // Sums, whose density ends nowhere abruptly: at such an edge the errors are no longer even.
    let exact = (0..<40_000).map { _ in
      scale * (0..<6).reduce(0) { sum, _ in sum + Double.random(in: -0.5...0.5, using: &random) }
    }
    let bytesPerElement = try #require(dtype.bytesPerElement)
    var bytes = [UInt8](repeating: 0, count: exact.count * bytesPerElement)
    var target = bytes.mutableSpan
    var raw = target.mutableBytes
    _ = ElementConversion.narrow(exact.span, to: dtype, into: &raw)
    var stored = [Double](repeating: 0, count: exact.count)
    var span = stored.mutableSpan
    ElementConversion.widen(bytes.span.bytes, from: dtype, into: &span)
    let squares = zip(exact, stored).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let predicted = ElementConversion.roundingVariance(stored.span, of: dtype)
    #expect(abs(squares / predicted - 1) < 0.07)
  }

  @Test func knowsNothingOfIntegers() {
    #expect(ElementConversion.roundingVariance([1.0, 2].span, of: .i8) == 0)
    #expect(ElementConversion.roundingVariance([1.0, .infinity].span, of: .f8e4m3) > 0)
  }
}
