extension ElementConversion {
  /// The variance that rounding to a storage dtype has put on stored elements, summed.
  ///
  /// What was rounded to nearest lies anywhere within half a step of the result, so the error has the variance of an even
  /// distribution, a twelfth of the squared step between neighbours there.
  ///
  /// - Parameters:
  ///   - values: The stored elements, widened.
  ///   - dtype: A floating-point type; of others nothing is known, and the sum is 0.
  /// - Returns: The sum over all elements.
  /// - Complexity: O(*n*).
  @specialized(where Value == Float)
  @specialized(where Value == Double)
  public static func roundingVariance<Value: BinaryFloatingPoint>(
    _ values: Span<Value>, of dtype: DType
  ) -> Double {
    guard let format = dtype.floatingPointFormat else { return 0 }
    var sum = 0.0
    for index in values.indices {
      let value = values[index]
      guard value.isFinite else { continue }
      let exponent =
        value.isZero ? format.leastExponent : max(Int(value.exponent), format.leastExponent)
      let step = Double(sign: .plus, exponent: exponent - format.fractionBits, significand: 1)
      sum += step * step
    }
    return sum / 12
  }
}

extension DType {
  /// The stored bits of the fraction and the exponent of the least normal number, for floating-point types.
  fileprivate var floatingPointFormat: (fractionBits: Int, leastExponent: Int)? {
    switch self {
    case .f64: (52, -1022)
    case .f32: (23, -126)
    case .bf16: (7, -126)
    case .f16: (10, -14)
    case .f8e4m3: (3, -6)
    case .f8e5m2: (2, -14)
    default: nil
    }
  }
}
