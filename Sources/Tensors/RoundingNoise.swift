extension ElementConversion {
  /// The variance that rounding to a storage dtype has put on stored elements, summed.
  ///
  /// What was rounded to nearest lies anywhere within half a step of the result, so the error has the mean square of an even
  /// distribution, a twelfth of the squared step between neighbours there; three quarters of that at a power of two, where
  /// the steps below are half as wide.
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
      let unit = format.unit(at: Double(value))
      let isAtSmallerSteps = value.significand == 1 && unit > format.leastUnit
      sum += unit * unit * (isAtSmallerSteps ? 0.75 : 1)
    }
    return sum / 12
  }
}
