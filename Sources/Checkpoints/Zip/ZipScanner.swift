import Tensors

/// Reads the little-endian fields of one zip record, each checked against the record's end.
struct ZipScanner {
  private let bytes: ArraySlice<UInt8>
  /// Position in the file of the first byte.
  private let origin: UInt64
  private(set) var position = 0

  init(_ bytes: ArraySlice<UInt8>, at origin: UInt64) {
    self.bytes = bytes
    self.origin = origin
  }

  /// Position in the file of the next byte.
  var offset: UInt64 { origin + UInt64(position) }

  var rest: Int { bytes.count - position }

  mutating func take(_ count: Int) throws(SurgeryError) -> ArraySlice<UInt8> {
    guard count <= rest else {
      throw SurgeryError(
        .data, "zip.record", "a record of the zip archive is cut short",
        expected: "\(count, counting: "byte")",
        found: "\(rest, counting: "byte")", offset: offset)
    }
    let start = bytes.startIndex + position
    position += count
    return bytes[start..<start + count]
  }

  mutating func u16() throws(SurgeryError) -> UInt16 { UInt16(try integer(2)) }

  mutating func u32() throws(SurgeryError) -> UInt32 { UInt32(try integer(4)) }

  mutating func u64() throws(SurgeryError) -> UInt64 { try integer(8) }

  private mutating func integer(_ count: Int) throws(SurgeryError) -> UInt64 {
    try take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}

extension [UInt8] {
  /// Appends the `count` low bytes of `value`, lowest first.
  mutating func appendZip(_ value: UInt64, count: Int) {
    for index in 0..<count { append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))) }
  }
}
