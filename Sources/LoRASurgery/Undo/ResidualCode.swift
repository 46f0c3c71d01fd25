import Tensors

/// Turns the elements of a page of the base into few and regular bytes, given a prediction of them, and back.
///
/// A stored element is read as an unsigned integer in the order of the values it stands for (negative numbers by their
/// complement, others with the sign bit set), so that neighbours in the dtype differ by 1. A residual is base minus
/// prediction in that order, modulo the width. The first byte of a page says how its residuals are written:
///
/// | code | bytes that follow |
/// |---|---|
/// | 0 | the base's own bytes, plane by plane: first the lowest byte of every element, at last the highest |
/// | 1 | ⌈n/5⌉ bytes of five digits to the base of three, the first digit the lowest: 0 for none, 1 for +1, 2 for -1; then the other residuals, each as the distance from the place of the one before (that of the first: from -1) and the zigzag residual, both as LEB128; their digits are 0 |
/// | 2 | the zigzag residuals, plane by plane |
///
/// Zigzag maps 0, -1, 1, -2 … to 0, 1, 2, 3 …
enum ResidualCode {
  /// Encodes a page.
  ///
  /// - Parameters:
  ///   - base: The elements of the base.
  ///   - prediction: As many elements, or `nil` where there is nothing to predict them from.
  ///   - size: Bytes of an element.
  /// - Returns: The page before compression.
  static func encoded(_ base: [UInt8], predicted prediction: [UInt8]?, size: Int) -> [UInt8] {
    guard let prediction else { return [0] + planes(of: base, size: size) }
    switch size {
    case 1: return residuals(base, prediction, UInt8.self)
    case 2: return residuals(base, prediction, UInt16.self)
    case 4: return residuals(base, prediction, UInt32.self)
    default: return residuals(base, prediction, UInt64.self)
    }
  }

  /// Decodes a page.
  ///
  /// - Parameters:
  ///   - code: What `encoded` made.
  ///   - prediction: The same prediction.
  ///   - count: Bytes of the page.
  ///   - size: Bytes of an element.
  /// - Returns: The elements of the base.
  /// - Throws: `undo.damaged`.
  static func decoded(
    _ code: [UInt8], predicted prediction: [UInt8]?, count: Int, size: Int
  ) throws(SurgeryError) -> [UInt8] {
    guard let method = code.first else { throw damaged }
    if method == 0 {
      guard code.count == count + 1 else { throw damaged }
      return gathered(code[1...], size: size)
    }
    guard let prediction, prediction.count == count, method <= 2 else { throw damaged }
    switch size {
    case 1: return try restored(code, prediction, UInt8.self)
    case 2: return try restored(code, prediction, UInt16.self)
    case 4: return try restored(code, prediction, UInt32.self)
    default: return try restored(code, prediction, UInt64.self)
    }
  }

  static var damaged: SurgeryError {
    SurgeryError(.data, "undo.damaged", "a page of the undo record is damaged")
  }

  private static func planes(of bytes: [UInt8], size: Int) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: bytes.count)
    let count = bytes.count / size
    for plane in 0..<size {
      for index in 0..<count { result[plane &* count &+ index] = bytes[index &* size &+ plane] }
    }
    return result
  }

  private static func gathered(_ planes: ArraySlice<UInt8>, size: Int) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: planes.count)
    let count = planes.count / size
    let start = planes.startIndex
    for plane in 0..<size {
      for index in 0..<count {
        result[index &* size &+ plane] = planes[start &+ plane &* count &+ index]
      }
    }
    return result
  }

  @inline(__always)
  private static func ordered<Pattern: FixedWidthInteger & UnsignedInteger>(
    _ bits: Pattern
  ) -> Pattern {
    let sign = Pattern(1) << Pattern(Pattern.bitWidth - 1)
    return bits & sign == 0 ? bits | sign : ~bits
  }

  @inline(__always)
  private static func unordered<Pattern: FixedWidthInteger & UnsignedInteger>(
    _ value: Pattern
  ) -> Pattern {
    let sign = Pattern(1) << Pattern(Pattern.bitWidth - 1)
    return value & sign == 0 ? ~value : value & ~sign
  }

  @inline(__always)
  private static func load<Pattern: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _ bytes: [UInt8], _ index: Int, _: Pattern.Type
  ) -> Pattern {
    unsafe Pattern(
      littleEndian: bytes.span.bytes.unsafeLoadUnaligned(
        fromUncheckedByteOffset: index &* MemoryLayout<Pattern>.size, as: Pattern.self))
  }

  @specialized(where Pattern == UInt8)
  @specialized(where Pattern == UInt16)
  @specialized(where Pattern == UInt32)
  @specialized(where Pattern == UInt64)
  private static func residuals<Pattern: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _ base: [UInt8], _ prediction: [UInt8], _: Pattern.Type
  ) -> [UInt8] {
    let size = MemoryLayout<Pattern>.size
    let count = base.count / size
    var digits = [UInt8](repeating: 0, count: 1 + (count + 4) / 5)
    digits[0] = 1
    var others: [(place: Int, residual: Pattern)] = []
    let place: [UInt8] = [1, 3, 9, 27, 81]
    var (byte, digit) = (1, 0)
    for index in 0..<count {
      let residual =
        ordered(load(base, index, Pattern.self))
        &- ordered(load(prediction, index, Pattern.self))
      if residual == 1 {
        digits[byte] += place[digit]
      } else if residual == Pattern.max {
        digits[byte] += 2 * place[digit]
      } else if residual != 0 {
        others.append((index, residual))
      }
      digit += 1
      if digit == 5 { (byte, digit) = (byte + 1, 0) }
    }
    if others.count * 4 <= count {
      var previous = -1
      for other in others {
        appendLEB128(UInt64(other.place - previous), to: &digits)
        appendLEB128(UInt64(zigzag(other.residual)), to: &digits)
        previous = other.place
      }
      return digits
    }
    var bytes = [UInt8](repeating: 0, count: 1 + base.count)
    bytes[0] = 2
    for index in 0..<count {
      let residual =
        ordered(load(base, index, Pattern.self))
        &- ordered(load(prediction, index, Pattern.self))
      let value = zigzag(residual)
      for plane in 0..<size {
        bytes[1 &+ plane &* count &+ index] = UInt8(
          truncatingIfNeeded: value >> Pattern(8 &* plane))
      }
    }
    return bytes
  }

  @specialized(where Pattern == UInt8)
  @specialized(where Pattern == UInt16)
  @specialized(where Pattern == UInt32)
  @specialized(where Pattern == UInt64)
  private static func restored<Pattern: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _ code: [UInt8], _ prediction: [UInt8], _: Pattern.Type
  ) throws(SurgeryError) -> [UInt8] {
    let size = MemoryLayout<Pattern>.size
    let count = prediction.count / size
    var residuals = [Pattern](repeating: 0, count: count)
    if code[0] == 2 {
      guard code.count == 1 + prediction.count else { throw damaged }
      for index in 0..<count {
        var value: Pattern = 0
        for plane in 0..<size {
          value |= Pattern(code[1 + plane * count + index]) << Pattern(8 * plane)
        }
        residuals[index] = unzigzag(value)
      }
    } else {
      var position = 1 + (count + 4) / 5
      guard code.count >= position else { throw damaged }
      for byte in 0..<(count + 4) / 5 {
        var digits = code[1 + byte]
        for index in 5 * byte..<min(count, 5 * byte + 5) {
          switch digits % 3 {
          case 1: residuals[index] = 1
          case 2: residuals[index] = Pattern.max
          default: break
          }
          digits /= 3
        }
      }
      var place = -1
      while position < code.count {
        let distance = try readLEB128(code, &position)
        let value = try readLEB128(code, &position)
        guard distance > 0, distance <= UInt64(count - 1 - place),
          let value = Pattern(exactly: value)
        else { throw damaged }
        place += Int(distance)
        residuals[place] = unzigzag(value)
      }
    }
    var result = [UInt8](repeating: 0, count: prediction.count)
    for index in 0..<count {
      let bits = unordered(ordered(load(prediction, index, Pattern.self)) &+ residuals[index])
      for byte in 0..<size {
        result[index &* size &+ byte] = UInt8(truncatingIfNeeded: bits >> Pattern(8 &* byte))
      }
    }
    return result
  }

  @inline(__always)
  private static func zigzag<Pattern: FixedWidthInteger & UnsignedInteger>(
    _ value: Pattern
  ) -> Pattern {
    let isNegative = value >> Pattern(Pattern.bitWidth - 1) == 1
    return (value << 1) ^ (isNegative ? Pattern.max : 0)
  }

  @inline(__always)
  private static func unzigzag<Pattern: FixedWidthInteger & UnsignedInteger>(
    _ value: Pattern
  ) -> Pattern {
    (value >> 1) ^ (value & 1 == 1 ? Pattern.max : 0)
  }

  private static func appendLEB128(_ value: UInt64, to bytes: inout [UInt8]) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  private static func readLEB128(
    _ bytes: [UInt8], _ position: inout Int
  ) throws(SurgeryError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 64, by: 7) {
      guard position < bytes.count else { throw damaged }
      let byte = bytes[position]
      position += 1
      let part = UInt64(byte & 0x7F)
      guard shift < 63 || part <= 1 else { throw damaged }
      value |= part << shift
      if byte & 0x80 == 0 { return value }
    }
    throw damaged
  }
}
