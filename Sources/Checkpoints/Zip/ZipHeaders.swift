import Tensors

/// What the headers of a written member say.
struct ZipMember {
  var name: [UInt8]
  var method: ZipEntry.Method
  var comment: [UInt8] = []
  var size: UInt64
  /// Bytes in the file; known late where the member is compressed.
  var compressedSize: UInt64
  var crc: UInt32 = 0
  var headerOffset: UInt64 = 0
  /// Whether the sizes stand in the zip64 field; decided before they are known, since it decides where the data begins.
  var isWide: Bool
  /// Bytes of the field that moves the data to a multiple of 64.
  var padding: Int = 0

  /// The extra field that Android's zipalign uses for the same purpose; readers skip fields that they do not know.
  private static let paddingID: UInt64 = 0xD935
  private static let alignment: UInt64 = 64
  private static let smallestPadding: UInt64 = 6
  /// The first size that 32 bits do not hold; all ones means "see the zip64 field".
  static let wideLimit: UInt64 = 0xFFFF_FFFF

  init(
    name: String, method: ZipEntry.Method, comment: [UInt8] = [], size: UInt64,
    largestCompressed: UInt64
  ) {
    self.name = Array(name.utf8)
    self.method = method
    self.comment = comment
    self.size = size
    compressedSize = method == .stored ? size : 0
    isWide = size >= Self.wideLimit || largestCompressed >= Self.wideLimit
  }

  /// Places the member's header at `offset`, with its data at a multiple of 64.
  mutating func place(at offset: UInt64) {
    headerOffset = offset
    padding = 0
    let unpadded = dataOffset + Self.smallestPadding
    let gap = (Self.alignment - unpadded % Self.alignment) % Self.alignment
    padding = Int(Self.smallestPadding + gap)
  }

  /// Position of the first byte of data.
  var dataOffset: UInt64 {
    headerOffset + 30 + UInt64(name.count) + (isWide ? 20 : 0) + UInt64(padding)
  }

  /// Where the next member may begin.
  var end: UInt64 { dataOffset + compressedSize }

  /// UTF-8 is flagged where it matters, as NumPy does.
  private var flags: UInt64 { name.contains { $0 >= 0x80 } ? 0x800 : 0 }

  /// Fields that both headers have: flags, method, time, checksum and sizes.
  private func appendCommon(to bytes: inout [UInt8], isWide: Bool) {
    bytes.appendZip(flags, count: 2)
    bytes.appendZip(method == .deflated ? 8 : 0, count: 2)
    // 1980-01-01 00:00, the first day of the format, so that the same tensors give the same bytes.
    bytes.appendZip(0x0021_0000, count: 4)
    bytes.appendZip(UInt64(crc), count: 4)
    bytes.appendZip(isWide ? Self.wideLimit : compressedSize, count: 4)
    bytes.appendZip(isWide ? Self.wideLimit : size, count: 4)
    bytes.appendZip(UInt64(name.count), count: 2)
  }

  /// The local header (APPNOTE 4.3.7), up to the data.
  var localHeader: [UInt8] {
    var bytes: [UInt8] = [0x50, 0x4B, 3, 4]
    bytes.appendZip(isWide ? 45 : 20, count: 2)
    appendCommon(to: &bytes, isWide: isWide)
    bytes.appendZip(UInt64((isWide ? 20 : 0) + padding), count: 2)
    bytes += name
    if isWide {
      bytes.appendZip(1, count: 2)
      bytes.appendZip(16, count: 2)
      bytes.appendZip(size, count: 8)
      bytes.appendZip(compressedSize, count: 8)
    }
    bytes.appendZip(Self.paddingID, count: 2)
    bytes.appendZip(UInt64(padding - 4), count: 2)
    bytes.appendZip(Self.alignment, count: 2)
    bytes += repeatElement(0, count: padding - 6)
    return bytes
  }

  /// The entry of the central directory (APPNOTE 4.3.12).
  var directoryEntry: [UInt8] {
    let hasWideOffset = headerOffset >= Self.wideLimit
    var extra: [UInt8] = []
    if isWide || hasWideOffset {
      extra.appendZip(1, count: 2)
      extra.appendZip((isWide ? 16 : 0) + (hasWideOffset ? 8 : 0), count: 2)
      if isWide {
        extra.appendZip(size, count: 8)
        extra.appendZip(compressedSize, count: 8)
      }
      if hasWideOffset { extra.appendZip(headerOffset, count: 8) }
    }
    // Made by version 4.5 on Unix, with the mode of an ordinary file.
    var bytes: [UInt8] = [0x50, 0x4B, 1, 2, 45, 3]
    bytes.appendZip(extra.isEmpty ? 20 : 45, count: 2)
    appendCommon(to: &bytes, isWide: isWide)
    bytes.appendZip(UInt64(extra.count), count: 2)
    bytes.appendZip(UInt64(comment.count), count: 2)
    bytes.appendZip(0, count: 4)
    bytes.appendZip(0o100_644 << 16, count: 4)
    bytes.appendZip(min(headerOffset, Self.wideLimit), count: 4)
    return bytes + name + extra + comment
  }

  /// Bytes that `directoryEntry` has.
  var directoryEntrySize: UInt64 {
    let wide = isWide || headerOffset >= Self.wideLimit
    return 46 + UInt64(name.count + comment.count)
      + (wide ? 4 + (isWide ? 16 : 0) + (headerOffset >= Self.wideLimit ? 8 : 0) : 0)
  }
}

/// The end of a written archive (APPNOTE 4.3.14 to 4.3.16).
struct ZipEnd {
  var count: UInt64
  var directoryOffset: UInt64
  var directorySize: UInt64
  var comment: [UInt8]

  private var isWide: Bool {
    count >= 0xFFFF || directoryOffset >= ZipMember.wideLimit
      || directorySize >= ZipMember.wideLimit
  }

  /// Bytes that `bytes` has.
  var size: UInt64 { (isWide ? 76 : 0) + 22 + UInt64(comment.count) }

  /// The zip64 record and its locator where needed, and the end record.
  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    if isWide {
      bytes += [0x50, 0x4B, 6, 6]
      bytes.appendZip(44, count: 8)
      bytes += [45, 3, 45, 0]
      bytes.appendZip(0, count: 8)
      bytes.appendZip(count, count: 8)
      bytes.appendZip(count, count: 8)
      bytes.appendZip(directorySize, count: 8)
      bytes.appendZip(directoryOffset, count: 8)
      bytes += [0x50, 0x4B, 6, 7]
      bytes.appendZip(0, count: 4)
      bytes.appendZip(directoryOffset + directorySize, count: 8)
      bytes.appendZip(1, count: 4)
    }
    bytes += [0x50, 0x4B, 5, 6, 0, 0, 0, 0]
    bytes.appendZip(min(count, 0xFFFF), count: 2)
    bytes.appendZip(min(count, 0xFFFF), count: 2)
    bytes.appendZip(min(directorySize, ZipMember.wideLimit), count: 4)
    bytes.appendZip(min(directoryOffset, ZipMember.wideLimit), count: 4)
    bytes.appendZip(UInt64(comment.count), count: 2)
    return bytes + comment
  }
}
