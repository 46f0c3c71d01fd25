import CZlib

/// The checksum of zip members (CRC-32 of ISO 3309, as zlib computes it).
enum CRC32 {
  /// The checksum of what `crc` covers followed by `bytes`; 0 covers nothing.
  static func update(_ crc: UInt32, _ bytes: RawSpan) -> UInt32 {
    // zlib answers a null pointer, which an empty buffer has, with the initial value instead of `crc`.
    if bytes.isEmpty { return crc }
    return unsafe bytes.withUnsafeBytes { buffer in
      UInt32(
        truncatingIfNeeded: unsafe crc32_z(
          uLong(crc), buffer.baseAddress?.assumingMemoryBound(to: UInt8.self), buffer.count))
    }
  }

  /// The checksum of an array.
  static func of(_ bytes: [UInt8]) -> UInt32 { unsafe update(0, bytes.span.bytes) }

  /// The checksum of two runs of bytes from the checksum of each.
  ///
  /// - Complexity: O(log *count*).
  static func combine(_ first: UInt32, _ second: UInt32, secondCount: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: crc32_combine(uLong(first), uLong(second), secondCount))
  }
}
