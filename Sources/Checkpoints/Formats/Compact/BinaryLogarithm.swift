/// The binary logarithm to within 0.009, by arithmetic alone, so that every machine decides alike what depends on it.
///
/// - Parameter value: Positive and finite.
/// - Returns: The exponent, and a parabola through the ends of its octave.
public func binaryLogarithm(_ value: Double) -> Double {
  let fraction = value.significand - 1
  return Double(value.exponent) + fraction * (1.344 - 0.344 * fraction)
}

/// Bits that symbols take by their entropy, with an estimate of the table that a prefix code needs.
///
/// - Parameter counts: How often each symbol occurs.
/// - Returns: Bits.
func estimatedBits(_ counts: [UInt32]) -> Double {
  var (total, bits) = (0.0, 0.0)
  for count in counts where count > 0 {
    total += Double(count)
    // A code length takes about five bits.
    bits += 5 - Double(count) * binaryLogarithm(Double(count))
  }
  return total > 0 ? bits + total * binaryLogarithm(total) : 0
}
