import CTensorKernels

/// Elements of stored types turned into `Float` or `Double`, and back.
///
/// The bulk entry points switch on the dtype once; the loops behind them work on little-endian bytes of any
/// alignment. Nothing here allocates.
public enum ElementConversion {
  /// Widens stored elements to single precision.
  ///
  /// Exact for every floating-point type but F64, which is rounded to nearest even, as are integers beyond 2^24.
  ///
  /// - Parameters:
  ///   - source: `target.count` elements of `dtype`, little-endian.
  ///   - dtype: A numeric type; asking for another is a programming error.
  ///   - target: Receives the values.
  /// - Complexity: O(*n*), at memory speed for BF16, F16 and F32.
  public static func widen(
    _ source: RawSpan, from dtype: DType, into target: inout MutableSpan<Float>
  ) {
    let count = target.count
    checkLength(source.byteCount, dtype, count)
    unsafe source.withUnsafeBytes { bytes in
      unsafe target.withUnsafeMutableBufferPointer { out in
        switch dtype {
        case .bf16:
          unsafe map(bytes, out, UInt16.self) { FloatPatterns.widen(bf16: $0) }
        case .f16: unsafe widenF16(bytes, out)
        case .f32: unsafe map(bytes, out, UInt32.self) { Float(bitPattern: $0) }
        case .f64: unsafe map(bytes, out, UInt64.self) { Float(Double(bitPattern: $0)) }
        case .f8e4m3: unsafe map(bytes, out, UInt8.self) { FloatPatterns.widen(e4m3: $0) }
        case .f8e5m2: unsafe map(bytes, out, UInt8.self) { FloatPatterns.widen(e5m2: $0) }
        case .bool: unsafe map(bytes, out, UInt8.self) { $0 == 0 ? 0 : 1 }
        case .u8: unsafe map(bytes, out, UInt8.self) { Float($0) }
        case .i8: unsafe map(bytes, out, Int8.self) { Float($0) }
        case .u16: unsafe map(bytes, out, UInt16.self) { Float($0) }
        case .i16: unsafe map(bytes, out, Int16.self) { Float($0) }
        case .u32: unsafe map(bytes, out, UInt32.self) { Float($0) }
        case .i32: unsafe map(bytes, out, Int32.self) { Float($0) }
        case .u64: unsafe map(bytes, out, UInt64.self) { Float($0) }
        case .i64: unsafe map(bytes, out, Int64.self) { Float($0) }
        case .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .f4, .f6e2m3, .f6e3m2, .c64, .blockQuantised:
          notNumeric(dtype)
        }
      }
    }
  }

  /// Widens stored elements to double precision; exact but for 64-bit integers beyond 2^53.
  ///
  /// - Parameters:
  ///   - source: `target.count` elements of `dtype`, little-endian.
  ///   - dtype: A numeric type; asking for another is a programming error.
  ///   - target: Receives the values.
  /// - Complexity: O(*n*).
  public static func widen(
    _ source: RawSpan, from dtype: DType, into target: inout MutableSpan<Double>
  ) {
    let count = target.count
    checkLength(source.byteCount, dtype, count)
    unsafe source.withUnsafeBytes { bytes in
      unsafe target.withUnsafeMutableBufferPointer { out in
        switch dtype {
        case .bf16: unsafe map(bytes, out, UInt16.self) { Double(FloatPatterns.widen(bf16: $0)) }
        case .f16: unsafe map(bytes, out, UInt16.self) { Double(FloatPatterns.widen(f16: $0)) }
        case .f32: unsafe map(bytes, out, UInt32.self) { Double(Float(bitPattern: $0)) }
        case .f64: unsafe map(bytes, out, UInt64.self) { Double(bitPattern: $0) }
        case .f8e4m3: unsafe map(bytes, out, UInt8.self) { Double(FloatPatterns.widen(e4m3: $0)) }
        case .f8e5m2: unsafe map(bytes, out, UInt8.self) { Double(FloatPatterns.widen(e5m2: $0)) }
        case .bool: unsafe map(bytes, out, UInt8.self) { $0 == 0 ? 0 : 1 }
        case .u8: unsafe map(bytes, out, UInt8.self) { Double($0) }
        case .i8: unsafe map(bytes, out, Int8.self) { Double($0) }
        case .u16: unsafe map(bytes, out, UInt16.self) { Double($0) }
        case .i16: unsafe map(bytes, out, Int16.self) { Double($0) }
        case .u32: unsafe map(bytes, out, UInt32.self) { Double($0) }
        case .i32: unsafe map(bytes, out, Int32.self) { Double($0) }
        case .u64: unsafe map(bytes, out, UInt64.self) { Double($0) }
        case .i64: unsafe map(bytes, out, Int64.self) { Double($0) }
        case .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .f4, .f6e2m3, .f6e3m2, .c64, .blockQuantised:
          notNumeric(dtype)
        }
      }
    }
  }

  /// Widens the difference of two runs of stored elements in one pass, for the types that models are stored in.
  ///
  /// - Parameters:
  ///   - minuend: `target.count` elements of `dtype`, little-endian.
  ///   - subtrahend: As many.
  ///   - dtype: The type of both.
  ///   - target: Receives `minuend - subtrahend`, as if both had been widened first.
  /// - Returns: Whether there is a kernel for the type: BF16, F16 and F32. Otherwise nothing is done.
  public static func widenDifference(
    _ minuend: RawSpan, _ subtrahend: RawSpan, from dtype: DType,
    into target: inout MutableSpan<Float>
  ) -> Bool {
    guard dtype == .bf16 || dtype == .f16 || dtype == .f32 else { return false }
    let count = target.count
    checkLength(minuend.byteCount, dtype, count)
    checkLength(subtrahend.byteCount, dtype, count)
    unsafe minuend.withUnsafeBytes { minuend in
      unsafe subtrahend.withUnsafeBytes { subtrahend in
        unsafe target.withUnsafeMutableBufferPointer { out in
          guard let a = minuend.baseAddress, let b = subtrahend.baseAddress,
            let target = out.baseAddress
          else { return }
          if dtype == .f32 {
            return unsafe lora_difference_f32(
              a.assumingMemoryBound(to: Float.self), b.assumingMemoryBound(to: Float.self), target,
              count)
          }
          let (a16, b16) = unsafe (
            a.assumingMemoryBound(to: UInt16.self), b.assumingMemoryBound(to: UInt16.self)
          )
          if dtype == .bf16 { return unsafe lora_difference_bf16(a16, b16, target, count) }
          for i in unsafe lora_difference_f16(a16, b16, target, count)..<count {
            unsafe target[i] = FloatPatterns.widen(f16: a16[i]) - FloatPatterns.widen(f16: b16[i])
          }
        }
      }
    }
    return true
  }

  private static func widenF16(
    _ bytes: UnsafeRawBufferPointer, _ out: UnsafeMutableBufferPointer<Float>
  ) {
    guard let source = bytes.baseAddress, let target = out.baseAddress else { return }
    let done = unsafe lora_widen_f16(
      source.assumingMemoryBound(to: UInt16.self), target, out.count)
    for i in done..<out.count {
      unsafe out[i] = FloatPatterns.widen(
        f16: bytes.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))
    }
  }

  @inline(__always)
  private static func map<Pattern: BitwiseCopyable, Value>(
    _ bytes: UnsafeRawBufferPointer, _ out: UnsafeMutableBufferPointer<Value>,
    _: Pattern.Type, _ convert: (Pattern) -> Value
  ) {
    for i in 0..<out.count {
      unsafe out[i] = convert(
        bytes.loadUnaligned(fromByteOffset: i &* MemoryLayout<Pattern>.size, as: Pattern.self))
    }
  }

  static func checkLength(_ bytes: Int, _ dtype: DType, _ count: Int) {
    precondition(
      dtype.byteCount(ofElements: count) == bytes,
      "\(count) elements of \(dtype) do not take \(bytes) bytes")
  }

  static func notNumeric(_ dtype: DType) -> Never {
    preconditionFailure("\(dtype) is no numeric type")
  }
}
