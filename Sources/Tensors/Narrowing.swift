import CTensorKernels

/// What narrowing lost beyond ordinary rounding.
public struct NarrowingLoss: Sendable, Hashable {
  /// Values that the narrower type cannot hold: finite ones became infinite, NaN or the nearest end of an
  /// integer range; NaN and infinities count where the type is an integer.
  public var overflowed = 0

  /// Nothing lost.
  public init() {}

  /// Adds the counts of another block.
  public static func += (left: inout Self, right: Self) { left.overflowed += right.overflowed }
}

extension ElementConversion {
  /// Narrows single-precision values to a stored type, each rounded once to nearest even.
  ///
  /// - Parameters:
  ///   - source: The values.
  ///   - dtype: A numeric type; integers are rounded to nearest even and clamped, BOOL is "not zero".
  ///   - target: Receives `source.count` elements, little-endian.
  /// - Returns: How many finite values did not fit.
  /// - Complexity: O(*n*), at memory speed for BF16, F16 and F32.
  public static func narrow(
    _ source: Span<Float>, to dtype: DType, into target: inout MutableRawSpan
  ) -> NarrowingLoss {
    checkLength(target.byteCount, dtype, source.count)
    return unsafe source.withUnsafeBufferPointer { values in
      unsafe target.withUnsafeMutableBytes { out in
        switch dtype {
        case .bf16:
          unsafe store(values, out) { FloatPatterns.narrowToBF16($0) }
          return unsafe overflow(values, out, mask: 0x7FFF, infinity: 0x7F80)
        case .f16:
          unsafe narrowF16(values, out)
          return unsafe overflow(values, out, mask: 0x7FFF, infinity: 0x7C00)
        case .f32:
          unsafe store(values, out) { $0.bitPattern }
          return NarrowingLoss()
        case .f64:
          unsafe store(values, out) { Double($0).bitPattern }
          return NarrowingLoss()
        default:
          return unsafe narrowSlowly(values, to: dtype, out) { Double($0) }
        }
      }
    }
  }

  /// Narrows double-precision values to a stored type, each rounded once to nearest even.
  ///
  /// - Parameters:
  ///   - source: The values.
  ///   - dtype: A numeric type; integers are rounded to nearest even and clamped, BOOL is "not zero".
  ///   - target: Receives `source.count` elements, little-endian.
  /// - Returns: How many finite values did not fit.
  /// - Complexity: O(*n*).
  public static func narrow(
    _ source: Span<Double>, to dtype: DType, into target: inout MutableRawSpan
  ) -> NarrowingLoss {
    checkLength(target.byteCount, dtype, source.count)
    return unsafe source.withUnsafeBufferPointer { values in
      unsafe target.withUnsafeMutableBytes { out in
        unsafe narrowSlowly(values, to: dtype, out) { $0 }
      }
    }
  }

  private static func narrowSlowly<Value>(
    _ values: UnsafeBufferPointer<Value>, to dtype: DType, _ out: UnsafeMutableRawBufferPointer,
    _ double: (Value) -> Double
  ) -> NarrowingLoss {
    var loss = NarrowingLoss()
    func float<Pattern: BitwiseCopyable>(
      _ narrow: (Float) -> Pattern, _ isFinite: (Pattern) -> Bool
    ) {
      unsafe store(values, out) { value in
        let pattern = narrow(roundedToOdd(double(value)))
        if double(value).isFinite && !isFinite(pattern) { loss.overflowed += 1 }
        return pattern
      }
    }
    func integer<Integer: FixedWidthInteger & BitwiseCopyable>(_: Integer.Type) {
      unsafe store(values, out) { value in
        let rounded = double(value).rounded(.toNearestOrEven)
        if let exact = Integer(exactly: rounded) { return exact }
        loss.overflowed += 1
        return rounded < 0 ? Integer.min : rounded > 0 ? Integer.max : 0
      }
    }
    switch dtype {
    case .f64: unsafe store(values, out) { double($0).bitPattern }
    case .f32:
      unsafe store(values, out) { value in
        let narrowed = Float(double(value))
        if double(value).isFinite && !narrowed.isFinite { loss.overflowed += 1 }
        return narrowed.bitPattern
      }
    case .bf16:
      float(FloatPatterns.narrowToBF16) { $0 & 0x7F80 != 0x7F80 }
    case .f16: float(FloatPatterns.narrowToF16) { $0 & 0x7C00 != 0x7C00 }
    case .f8e5m2: float(FloatPatterns.narrowToE5M2) { $0 & 0x7C != 0x7C }
    case .f8e4m3: float(FloatPatterns.narrowToE4M3) { $0 & 0x7F != 0x7F }
    case .bool: unsafe store(values, out) { double($0) == 0 ? UInt8(0) : 1 }
    case .u8: integer(UInt8.self)
    case .i8: integer(Int8.self)
    case .u16: integer(UInt16.self)
    case .i16: integer(Int16.self)
    case .u32: integer(UInt32.self)
    case .i32: integer(Int32.self)
    case .u64: integer(UInt64.self)
    case .i64: integer(Int64.self)
    case .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .f4, .f6e2m3, .f6e3m2, .c64, .blockQuantised:
      notNumeric(dtype)
    }
    return loss
  }

  /// The single-precision value next to `value` on the side that keeps a later rounding honest.
  ///
  /// An inexact value is truncated and its last bit set, so that rounding again to a type with at least two
  /// fewer bits equals rounding once (Boldo & Melquiond 2008, doi:10.1109/TC.2007.70819).
  static func roundedToOdd(_ value: Double) -> Float {
    let nearest = Float(value)
    let back = Double(nearest)
    if back == value || value.isNaN { return nearest }
    if !nearest.isFinite {
      return value.isFinite ? (value < 0 ? -1 : 1) * .greatestFiniteMagnitude : nearest
    }
    let truncated =
      back.magnitude > value.magnitude ? Float(bitPattern: nearest.bitPattern &- 1) : nearest
    return Float(bitPattern: truncated.bitPattern | 1)
  }

  private static func narrowF16(
    _ values: UnsafeBufferPointer<Float>, _ out: UnsafeMutableRawBufferPointer
  ) {
    guard let source = values.baseAddress, let target = out.baseAddress else { return }
    let done = unsafe lora_narrow_f16(
      source, target.assumingMemoryBound(to: UInt16.self), values.count)
    for i in done..<values.count {
      unsafe out.storeBytes(
        of: FloatPatterns.narrowToF16(values[i]), toByteOffset: 2 * i, as: UInt16.self)
    }
  }

  /// Counts results that are infinite though their source is finite.
  private static func overflow(
    _ values: UnsafeBufferPointer<Float>, _ out: UnsafeMutableRawBufferPointer, mask: UInt16,
    infinity: UInt16
  ) -> NarrowingLoss {
    var infinite = 0
    for i in 0..<values.count {
      let pattern = unsafe out.loadUnaligned(fromByteOffset: 2 &* i, as: UInt16.self)
      infinite &+= pattern & mask == infinity ? 1 : 0
    }
    var loss = NarrowingLoss()
    if infinite > 0 {
      loss.overflowed = unsafe infinite - values.count(where: { $0.isInfinite })
    }
    return loss
  }

  @inline(__always)
  private static func store<Value, Pattern: BitwiseCopyable>(
    _ values: UnsafeBufferPointer<Value>, _ out: UnsafeMutableRawBufferPointer,
    _ pattern: (Value) -> Pattern
  ) {
    for i in 0..<values.count {
      unsafe out.storeBytes(
        of: pattern(values[i]), toByteOffset: i &* MemoryLayout<Pattern>.size, as: Pattern.self)
    }
  }
}
