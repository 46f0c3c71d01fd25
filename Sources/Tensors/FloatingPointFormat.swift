/// How finely a floating-point dtype tells values apart.
public struct FloatingPointFormat: Sendable, Hashable {
  /// The distance of neighbours between 1 and 2.
  public let unitOfOne: Double
  /// The distance of neighbours around zero.
  public let leastUnit: Double

  fileprivate init(fractionBits: Int, leastNormalExponent: Int) {
    unitOfOne = Double(sign: .plus, exponent: -fractionBits, significand: 1)
    leastUnit = Double(sign: .plus, exponent: leastNormalExponent - fractionBits, significand: 1)
  }

  /// The unit in the last place of a finite value: the distance to the next one away from zero.
  ///
  /// - Parameter value: A finite value, of this format or to be rounded to it.
  /// - Returns: A power of two.
  @inlinable
  public func unit(at value: Double) -> Double {
    value == 0 ? leastUnit : max(value.magnitude.binade * unitOfOne, leastUnit)
  }
}

extension DType {
  /// How finely it tells values apart, where it is a floating-point type that arithmetic writes.
  public var floatingPointFormat: FloatingPointFormat? {
    switch self {
    case .f64: FloatingPointFormat(fractionBits: 52, leastNormalExponent: -1022)
    case .f32: FloatingPointFormat(fractionBits: 23, leastNormalExponent: -126)
    case .bf16: FloatingPointFormat(fractionBits: 7, leastNormalExponent: -126)
    case .f16: FloatingPointFormat(fractionBits: 10, leastNormalExponent: -14)
    case .f8e4m3: FloatingPointFormat(fractionBits: 3, leastNormalExponent: -6)
    case .f8e5m2: FloatingPointFormat(fractionBits: 2, leastNormalExponent: -14)
    default: nil
    }
  }
}
