import FoundationEssentials
import Tensors

/// The files of `fixtures/` and helpers to convert single elements.
enum Fixtures {
  static func bytes(_ path: String, file: String = #filePath) throws -> [UInt8] {
    let root = URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    return [UInt8](try Data(contentsOf: root.appendingPathComponent("fixtures/" + path)))
  }
}

/// Little-endian integers taken one after the other.
struct Cursor {
  let bytes: [UInt8]
  var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool { position >= bytes.count }

  mutating func next<Value: FixedWidthInteger>(_: Value.Type) -> Value {
    var value: Value = 0
    for shift in 0..<Value.bitWidth / 8 {
      value |= Value(truncatingIfNeeded: bytes[position + shift]) << (8 * shift)
    }
    position += Value.bitWidth / 8
    return value
  }
}

extension ElementConversion {
  /// Stored elements as single-precision values.
  static func floats(_ bytes: [UInt8], _ dtype: DType) -> [Float] {
    var values = [Float](repeating: 7, count: bytes.count / (dtype.bytesPerElement ?? 1))
    var span = values.mutableSpan
    widen(bytes.span.bytes, from: dtype, into: &span)
    return values
  }

  /// Stored elements as double-precision values.
  static func doubles(_ bytes: [UInt8], _ dtype: DType) -> [Double] {
    var values = [Double](repeating: 7, count: bytes.count / (dtype.bytesPerElement ?? 1))
    var span = values.mutableSpan
    widen(bytes.span.bytes, from: dtype, into: &span)
    return values
  }

  /// Values as stored elements, and how many did not fit.
  static func stored(_ values: [Float], _ dtype: DType) -> (bytes: [UInt8], overflowed: Int) {
    var bytes = [UInt8](repeating: 0xEE, count: values.count * (dtype.bytesPerElement ?? 1))
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    let loss = narrow(values.span, to: dtype, into: &raw)
    return (bytes, loss.overflowed)
  }

  /// Values as stored elements, and how many did not fit.
  static func stored(_ values: [Double], _ dtype: DType) -> (bytes: [UInt8], overflowed: Int) {
    var bytes = [UInt8](repeating: 0xEE, count: values.count * (dtype.bytesPerElement ?? 1))
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    let loss = narrow(values.span, to: dtype, into: &raw)
    return (bytes, loss.overflowed)
  }
}

/// The patterns of `bytes` as unsigned integers of `width` bytes.
func patterns(_ bytes: [UInt8], width: Int) -> [UInt64] {
  stride(from: 0, to: bytes.count, by: width).map { start in
    (0..<width).reduce(0) { $0 | UInt64(bytes[start + $1]) << (8 * UInt64($1)) }
  }
}

/// The patterns as little-endian bytes of `width` bytes each.
func littleEndian(_ patterns: some Sequence<UInt64>, width: Int) -> [UInt8] {
  patterns.flatMap { pattern in
    (0..<width).map { UInt8(truncatingIfNeeded: pattern >> (8 * UInt64($0))) }
  }
}
