import Tensors

/// The end of a zip archive: where its directory is and how many entries it has.
///
/// PKWARE APPNOTE 6.3.10, sections 4.3.14 to 4.3.16. Stricter than most readers: exactly one end record whose comment ends
/// with the file, no other disks, and both spellings (plain and zip64) in agreement, so that no two readers see two archives.
struct ZipEndRecord {
  /// The end record without its comment.
  static let minimumSize = 22
  /// The end record with the longest comment.
  private static let maximumSize = minimumSize + 65_535

  private(set) var count: UInt64
  private(set) var directorySize: UInt64
  private(set) var directoryOffset: UInt64
  let comment: [UInt8]
  /// Where the directory must end: the position of this record, or of the zip64 record.
  private(set) var offset: UInt64

  init(of file: InputFile) throws(SurgeryError) {
    let tailSize = Int(min(file.size, UInt64(Self.maximumSize)))
    let tailOffset = file.size - UInt64(tailSize)
    let tail = try file.bytes(at: tailOffset, count: tailSize)
    let start = try Self.find(in: tail)
    offset = tailOffset + UInt64(start)
    var scanner = ZipScanner(tail[(start + 4)...], at: offset + 4)
    let disks = (try scanner.u16(), try scanner.u16())
    let counts = (try scanner.u16(), try scanner.u16())
    let size = try scanner.u32()
    let position = try scanner.u32()
    comment = Array(try scanner.take(Int(try scanner.u16())))
    guard disks == (0, 0) else {
      throw SurgeryError(
        .data, "zip.disks", "the zip archive is one of several disks", found: "disk \(disks.0)",
        offset: offset)
    }
    guard counts.0 == counts.1 else {
      throw SurgeryError(
        .data, "zip.count", "the end of central directory counts its entries in two ways",
        found: "\(counts.0) and \(counts.1)", offset: offset)
    }
    count = UInt64(counts.1)
    directorySize = UInt64(size)
    directoryOffset = UInt64(position)
    try readZip64(
      file, needed: counts.1 == .max || size == .max || position == .max)
  }

  /// The position of the only end record in the last bytes of the file.
  private static func find(in tail: [UInt8]) throws(SurgeryError) -> Int {
    var found: [Int] = []
    for start in stride(from: tail.count - minimumSize, through: 0, by: -1)
    where tail[start] == 0x50 && tail[start + 1] == 0x4B && tail[start + 2] == 5
      && tail[start + 3] == 6
    {
      let comment = Int(tail[start + 20]) | Int(tail[start + 21]) << 8
      if start + minimumSize + comment == tail.count { found.append(start) }
    }
    guard let start = found.first else {
      throw SurgeryError(
        .data, "zip.truncated",
        "the zip archive has no end of central directory record; it is truncated",
        hint: "download the file again")
    }
    guard found.count == 1 else {
      throw SurgeryError(
        .data, "zip.ambiguous",
        "the zip archive has several end of central directory records, so readers disagree on what it holds",
        expected: "1", found: "\(found.count)")
    }
    return start
  }

  private mutating func readZip64(_ file: InputFile, needed: Bool) throws(SurgeryError) {
    let plainOffset = offset
    guard plainOffset >= 20,
      try file.bytes(at: plainOffset - 20, count: 4) == [0x50, 0x4B, 6, 7]
    else {
      if needed {
        throw SurgeryError(
          .data, "zip.zip64", "the zip64 end of central directory is missing", offset: plainOffset)
      }
      return
    }
    let locatorOffset = plainOffset - 20
    var locator = ZipScanner(
      try file.bytes(at: locatorOffset + 4, count: 16)[...], at: locatorOffset + 4)
    let disk = try locator.u32()
    let recordOffset = try locator.u64()
    let disks = try locator.u32()
    guard disk == 0, disks <= 1 else {
      throw SurgeryError(
        .data, "zip.disks", "the zip archive is one of several disks", found: "\(disks) disks",
        offset: locatorOffset)
    }
    guard recordOffset <= locatorOffset, locatorOffset - recordOffset >= 56 else {
      throw SurgeryError(
        .data, "zip.zip64", "the zip64 locator points outside the archive",
        expected: "at most \(locatorOffset)", found: "\(recordOffset)", offset: locatorOffset)
    }
    var record = ZipScanner(
      try file.bytes(at: recordOffset, count: 56)[...], at: recordOffset)
    let signature = try record.u32()
    let size = try record.u64()
    guard signature == 0x0606_4B50, size == locatorOffset - recordOffset - 12 else {
      throw SurgeryError(
        .data, "zip.zip64", "the zip64 end record is not where its locator says",
        offset: recordOffset)
    }
    _ = try record.take(4)
    let recordDisks = (try record.u32(), try record.u32())
    let counts = (try record.u64(), try record.u64())
    let wide = (count: counts.1, size: try record.u64(), offset: try record.u64())
    guard recordDisks == (0, 0), counts.0 == counts.1,
      count == 0xFFFF || count == wide.count,
      directorySize == 0xFFFF_FFFF || directorySize == wide.size,
      directoryOffset == 0xFFFF_FFFF || directoryOffset == wide.offset
    else {
      throw SurgeryError(
        .data, "zip.zip64", "the zip64 end record disagrees with the end of central directory",
        offset: recordOffset)
    }
    count = wide.count
    directorySize = wide.size
    directoryOffset = wide.offset
    offset = recordOffset
  }
}
