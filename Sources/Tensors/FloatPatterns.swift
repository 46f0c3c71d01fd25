/// Bit patterns of the narrow floating-point types, and their exact values.
///
/// Widening is exact. Narrowing rounds to nearest, ties to even, once. bfloat16 and float16 overflow to
/// infinity (IEEE 754); so does F8_E5M2; F8_E4M3 has no infinity, and what exceeds 448 after rounding becomes NaN
/// (Micikevicius et al. 2022, arXiv:2209.05433; the behaviour of ml_dtypes and of PyTorch's conversions).
public enum FloatPatterns {
  /// The value of a bfloat16 pattern.
  @inlinable @inline(__always)
  public static func widen(bf16 bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

  /// The bfloat16 nearest to `value`; NaN stays NaN with its sign.
  @inlinable @inline(__always)
  public static func narrowToBF16(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let rounded = (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16
    let quiet = (bits >> 16) | 0x40
    return UInt16(truncatingIfNeeded: (bits & 0x7FFF_FFFF) > 0x7F80_0000 ? quiet : rounded)
  }

  /// The value of a float16 pattern.
  @inlinable @inline(__always)
  public static func widen(f16 bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = UInt32(bits & 0x7FFF)
    if magnitude >= 0x7C00 {
      // Signalling NaN becomes quiet, as the processor's own conversion has it.
      let quiet: UInt32 = magnitude > 0x7C00 ? 0x40_0000 : 0
      return Float(bitPattern: sign | 0x7F80_0000 | quiet | ((magnitude & 0x3FF) << 13))
    }
    if magnitude >= 0x0400 { return Float(bitPattern: sign | ((magnitude << 13) &+ 0x3800_0000)) }
    let value = Float(magnitude) * 0x1p-24
    return Float(bitPattern: sign | value.bitPattern)
  }

  /// The float16 nearest to `value`; NaN stays NaN with its sign.
  @inlinable @inline(__always)
  public static func narrowToF16(_ value: Float) -> UInt16 {
    let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
    let magnitude = value.bitPattern & 0x7FFF_FFFF
    if magnitude > 0x7F80_0000 {
      return sign | 0x7E00 | UInt16(truncatingIfNeeded: (magnitude >> 13) & 0x1FF)
    }
    if magnitude >= 0x477F_F000 { return sign | 0x7C00 }
    if magnitude >= 0x3880_0000 {
      let rebased = magnitude &- 0x3800_0000
      return sign | UInt16(truncatingIfNeeded: (rebased &+ 0xFFF &+ ((rebased >> 13) & 1)) >> 13)
    }
    // Below the smallest normal: adding 0.5 lets the hardware round to a multiple of 2^-24.
    let subnormal = Float(bitPattern: magnitude) + 0.5
    return sign | UInt16(truncatingIfNeeded: subnormal.bitPattern &- Float(0.5).bitPattern)
  }

  /// The value of an F8_E5M2 pattern, which is the upper half of a float16.
  @inlinable @inline(__always)
  public static func widen(e5m2 bits: UInt8) -> Float { widen(f16: UInt16(bits) << 8) }

  /// The F8_E5M2 nearest to `value`.
  public static func narrowToE5M2(_ value: Float) -> UInt8 {
    if value.isNaN { return (value.sign == .minus ? 0x80 : 0) | 0x7E }
    let sign: UInt8 = value.sign == .minus ? 0x80 : 0
    let bits = narrowMagnitude(
      value.magnitude, mantissaBits: 2, smallestExponent: -14, infinityBits: 0x7C)
    return sign | bits
  }

  /// The value of an F8_E4M3 pattern (the variant with NaN at 0x7F and no infinity).
  @inlinable
  public static func widen(e4m3 bits: UInt8) -> Float {
    let sign = UInt32(bits & 0x80) << 24
    let magnitude = UInt32(bits & 0x7F)
    if magnitude == 0x7F { return Float(bitPattern: sign | 0x7FC0_0000) }
    if magnitude >= 8 { return Float(bitPattern: sign | ((magnitude << 20) &+ 0x3C00_0000)) }
    return Float(bitPattern: sign | (Float(magnitude) * 0x1p-9).bitPattern)
  }

  /// The F8_E4M3 nearest to `value`; magnitudes that round beyond 448, and infinity, become NaN.
  public static func narrowToE4M3(_ value: Float) -> UInt8 {
    let sign: UInt8 = value.sign == .minus ? 0x80 : 0
    if value.isNaN { return sign | 0x7F }
    return sign
      | narrowMagnitude(value.magnitude, mantissaBits: 3, smallestExponent: -6, infinityBits: 0x7F)
  }

  /// Rounds a magnitude to an 8-bit pattern without sign; patterns at or above `infinityBits` are clamped to it.
  private static func narrowMagnitude(
    _ magnitude: Float, mantissaBits: Int, smallestExponent: Int, infinityBits: UInt8
  ) -> UInt8 {
    if magnitude == 0 { return 0 }
    if !magnitude.isFinite { return infinityBits }
    let exponent = max(Int(magnitude.exponent), smallestExponent)
    if exponent > 127 - mantissaBits { return infinityBits }
    // In units of the last place at this exponent; the products are exact because they are powers of two.
    let unit = Float(sign: .plus, exponent: exponent - mantissaBits, significand: 1)
    let units = (magnitude / unit).rounded(.toNearestOrEven)
    let pattern = (exponent - smallestExponent) << mantissaBits
    let bits = pattern + Int(units)
    return bits >= Int(infinityBits) ? infinityBits : UInt8(bits)
  }
}
