import Tensors

/// Elements taken apart into planes of bytes, and put together again.
///
/// A floating-point word is rotated left by one bit first: its sign goes to the lowest bit, so that the top plane holds
/// exponent bits alone (BF16 and F32: all eight; F16: five, and the top of the fraction). Exponents of weights take about
/// 2.6 bits; sign and fraction are noise, which no coder shortens and no reader should have to decode.
enum BytePlanes {
  /// How many planes a dtype has, and whether its words are rotated.
  ///
  /// - Parameter dtype: Any dtype; elements that are not whole bytes make one plane.
  /// - Returns: Planes of an element.
  static func form(of dtype: DType) -> (count: Int, isRotated: Bool) {
    (dtype.bytesPerElement ?? 1, dtype.isFloatingPoint)
  }

  /// Splits elements.
  ///
  /// - Parameters:
  ///   - bytes: Whole elements, little-endian.
  ///   - dtype: Their dtype.
  /// - Returns: The planes, the one with the highest bits first.
  static func split(_ bytes: [UInt8], _ dtype: DType) -> [[UInt8]] {
    let (count, isRotated) = form(of: dtype)
    let length = bytes.count / count
    switch (count, isRotated) {
    case (1, false): return [bytes]
    case (1, true): return [bytes.map { $0 << 1 | $0 >> 7 }]
    case (2, true): return split(bytes, length, UInt16.self) { $0 << 1 | $0 >> 15 }
    case (4, true): return split(bytes, length, UInt32.self) { $0 << 1 | $0 >> 31 }
    case (8, true): return split(bytes, length, UInt64.self) { $0 << 1 | $0 >> 63 }
    case (2, false): return split(bytes, length, UInt16.self) { $0 }
    case (4, false): return split(bytes, length, UInt32.self) { $0 }
    default: return split(bytes, length, UInt64.self) { $0 }
    }
  }

  /// Puts elements together.
  ///
  /// - Parameters:
  ///   - planes: The planes one after the other, each of the same length.
  ///   - dtype: The dtype of the elements.
  ///   - bytes: Receives the elements, little-endian.
  static func join(_ planes: [UInt8], _ dtype: DType, into bytes: inout [UInt8]) {
    let (count, isRotated) = form(of: dtype)
    let length = planes.count / count
    switch (count, isRotated) {
    case (1, false): bytes = planes
    case (1, true): bytes = planes.map { $0 >> 1 | $0 << 7 }
    case (2, true): join2(planes, length, into: &bytes) { $0 >> 1 | $0 << 15 }
    case (4, true): join4(planes, length, into: &bytes) { $0 >> 1 | $0 << 31 }
    case (8, true): join8(planes, length, into: &bytes) { $0 >> 1 | $0 << 63 }
    case (2, false): join2(planes, length, into: &bytes) { $0 }
    case (4, false): join4(planes, length, into: &bytes) { $0 }
    default: join8(planes, length, into: &bytes) { $0 }
    }
  }

  @inline(__always)
  private static func split<Word: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _ bytes: [UInt8], _ length: Int, _: Word.Type, _ turn: (Word) -> Word
  ) -> [[UInt8]] {
    let size = MemoryLayout<Word>.size
    return (0..<size).map { plane in
      let shift = Word(8 * (size - 1 - plane))
      return unsafe bytes.withUnsafeBytes { source in
        unsafe [UInt8](unsafeUninitializedCapacity: length) { target, filled in
          for index in 0..<length {
            let word = unsafe source.loadUnaligned(fromByteOffset: index &* size, as: Word.self)
            unsafe target[index] = UInt8(
              truncatingIfNeeded: turn(Word(littleEndian: word)) &>> shift)
          }
          filled = length
        }
      }
    }
  }

  @inline(__always)
  private static func join2(
    _ planes: [UInt8], _ length: Int, into bytes: inout [UInt8], _ turn: (UInt16) -> UInt16
  ) {
    unsafe planes.withUnsafeBufferPointer { source in
      unsafe bytes.withUnsafeMutableBytes { target in
        for index in 0..<length {
          let word =
            unsafe UInt16(source[index]) &<< 8 | UInt16(source[length &+ index])
          unsafe target.storeBytes(
            of: turn(word).littleEndian, toByteOffset: index &* 2, as: UInt16.self)
        }
      }
    }
  }

  @inline(__always)
  private static func join4(
    _ planes: [UInt8], _ length: Int, into bytes: inout [UInt8], _ turn: (UInt32) -> UInt32
  ) {
    unsafe planes.withUnsafeBufferPointer { source in
      unsafe bytes.withUnsafeMutableBytes { target in
        for index in 0..<length {
          let high =
            unsafe UInt32(source[index]) &<< 24 | UInt32(source[length &+ index]) &<< 16
          let low =
            unsafe UInt32(source[2 &* length &+ index]) &<< 8
            | UInt32(source[3 &* length &+ index])
          unsafe target.storeBytes(
            of: turn(high | low).littleEndian, toByteOffset: index &* 4, as: UInt32.self)
        }
      }
    }
  }

  @inline(__always)
  private static func join8(
    _ planes: [UInt8], _ length: Int, into bytes: inout [UInt8], _ turn: (UInt64) -> UInt64
  ) {
    unsafe planes.withUnsafeBufferPointer { source in
      unsafe bytes.withUnsafeMutableBytes { target in
        for index in 0..<length {
          var word: UInt64 = 0
          for plane in 0..<8 {
            word = unsafe word &<< 8 | UInt64(source[plane &* length &+ index])
          }
          unsafe target.storeBytes(
            of: turn(word).littleEndian, toByteOffset: index &* 8, as: UInt64.self)
        }
      }
    }
  }
}
