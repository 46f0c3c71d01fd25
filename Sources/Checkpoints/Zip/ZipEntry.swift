import Tensors

/// One member of a zip archive, checked in both places that describe it.
struct ZipEntry: Sendable {
  /// How a member's bytes are stored.
  enum Method: Sendable {
    case stored
    case deflated
  }

  var name: String
  var method: Method
  /// Bytes in the file.
  var compressedSize: UInt64
  /// Bytes of the member itself.
  var size: UInt64
  var crc: UInt32
  /// Position in the file of the local header.
  var headerOffset: UInt64
  /// Position in the file of the first byte of data.
  var dataOffset: UInt64
  /// Where the member ends with its descriptor.
  var end: UInt64
  /// The directory's comment on the member.
  var comment: [UInt8]

  /// Fails with the member's name.
  func failure(
    _ id: String, _ what: String, expected: String? = nil, found: String? = nil,
    offset: UInt64? = nil, kind: SurgeryError.Kind = .data
  ) -> SurgeryError {
    SurgeryError(
      kind, id, "member \"\(DisplayText.escaped(name))\": \(what)", expected: expected,
      found: found, offset: offset)
  }
}

/// One record of the central directory, before its local header is read (APPNOTE 4.3.12).
struct ZipDirectoryRecord {
  private(set) var entry: ZipEntry
  let flags: UInt16
  let methodCode: UInt16
  let nameBytes: ArraySlice<UInt8>

  /// Reads one record.
  ///
  /// - Throws: `zip.…`; encrypted and otherwise packed members are of kind `unsupported`.
  init(_ scanner: inout ZipScanner) throws(SurgeryError) {
    let recordOffset = scanner.offset
    guard try scanner.u32() == 0x0201_4B50 else {
      throw SurgeryError(
        .data, "zip.directory", "the zip directory holds something that is no entry",
        offset: recordOffset)
    }
    _ = try scanner.take(4)
    flags = try scanner.u16()
    methodCode = try scanner.u16()
    _ = try scanner.take(4)
    let crc = try scanner.u32()
    var sizes = ZipSizes(
      compressed: UInt64(try scanner.u32()), size: UInt64(try scanner.u32()))
    let nameCount = Int(try scanner.u16())
    let extraCount = Int(try scanner.u16())
    let commentCount = Int(try scanner.u16())
    let disk = try scanner.u16()
    _ = try scanner.take(2)
    let mode = try scanner.u32() >> 16
    sizes.headerOffset = UInt64(try scanner.u32())
    nameBytes = try scanner.take(nameCount)
    let extraOffset = scanner.offset
    let extra = ZipScanner(try scanner.take(extraCount), at: extraOffset)
    let comment = Array(try scanner.take(commentCount))
    guard let name = ZipName.decode(nameBytes, isUTF8: flags & 0x800 != 0) else {
      throw SurgeryError(
        .data, "zip.name", "the name of a zip member is not UTF-8", offset: recordOffset + 46)
    }
    entry = ZipEntry(
      name: name, method: methodCode == 8 ? .deflated : .stored, compressedSize: 0, size: 0,
      crc: crc, headerOffset: 0, dataOffset: 0, end: 0, comment: comment)
    if let problem = ZipName.problem(name) {
      throw entry.failure(
        "zip.name", "the name of the member is unsafe: \(problem)", offset: recordOffset + 46)
    }
    try sizes.resolve(extra, for: entry)
    entry.compressedSize = sizes.compressed
    entry.size = sizes.size
    entry.headerOffset = sizes.headerOffset
    guard disk == 0 || disk == .max else {
      throw entry.failure("zip.disks", "the member is on another disk", offset: recordOffset)
    }
    guard mode & 0xF000 != 0xA000 else {
      throw entry.failure("zip.link", "the member is a symbolic link", offset: recordOffset)
    }
    try checkSupported(at: recordOffset)
  }

  private func checkSupported(at offset: UInt64) throws(SurgeryError) {
    if flags & 0x2041 != 0 {
      throw entry.failure(
        "zip.encrypted", "the member is encrypted", offset: offset, kind: .unsupported)
    }
    if flags & 0x20 != 0 {
      throw entry.failure(
        "zip.patched", "the member holds compressed patched data", offset: offset,
        kind: .unsupported)
    }
    guard methodCode == 0 || methodCode == 8 else {
      throw entry.failure(
        "zip.method", "the member's compression method is not read",
        expected: "method 0 (stored) or 8 (deflated)",
        found: "method \(methodCode) (\(Self.methodName(methodCode)))", offset: offset,
        kind: .unsupported)
    }
    if entry.method == .stored, entry.size != entry.compressedSize {
      throw entry.failure(
        "zip.size", "the member is stored as it is, but its two sizes differ",
        expected: "\(entry.size, counting: "byte")",
        found: "\(entry.compressedSize, counting: "byte")", offset: offset)
    }
  }

  private static func methodName(_ code: UInt16) -> String {
    switch code {
    case 1: "shrink"
    case 2...5: "reduce"
    case 6: "implode"
    case 9: "deflate64"
    case 12: "bzip2"
    case 14: "LZMA"
    case 20, 93: "zstd"
    case 94: "MP3"
    case 95: "xz"
    case 96: "JPEG"
    case 97: "WavPack"
    case 98: "PPMd"
    case 99: "AES"
    default: "unknown"
    }
  }
}

/// The sizes of a header, of which those too large for 32 bits stand in the zip64 extra field (APPNOTE 4.5.3).
struct ZipSizes {
  var compressed: UInt64
  var size: UInt64
  var headerOffset: UInt64 = 0

  /// Replaces escaped fields by those of the zip64 field, and checks that all extra fields parse to their end.
  mutating func resolve(_ extra: ZipScanner, for entry: ZipEntry) throws(SurgeryError) {
    var extra = extra
    var wide: ZipScanner?
    do throws(SurgeryError) {
      while extra.rest > 0 {
        let id = try extra.u16()
        let count = Int(try extra.u16())
        let offset = extra.offset
        let field = try extra.take(count)
        guard id == 1 else { continue }
        guard wide == nil else {
          throw entry.failure("zip.zip64", "the member has two zip64 fields", offset: offset)
        }
        wide = ZipScanner(field, at: offset)
      }
    } catch  where error.id == "zip.record" {
      throw entry.failure(
        "zip.extra", "an extra field of the member is longer than its place", offset: error.offset)
    }
    do throws(SurgeryError) {
      try Self.widen(&size, &wide)
      try Self.widen(&compressed, &wide)
      try Self.widen(&headerOffset, &wide)
    } catch {
      throw entry.failure(
        "zip.zip64", "the zip64 field of the member is missing or too short", offset: error.offset)
    }
  }

  private static func widen(
    _ value: inout UInt64, _ wide: inout ZipScanner?
  ) throws(SurgeryError) {
    guard value == 0xFFFF_FFFF else { return }
    guard let wideValue = try wide?.u64() else {
      throw SurgeryError(.data, "zip.zip64", "no zip64 field")
    }
    value = wideValue
  }
}
