import Tensors

/// The members of a zip archive, checked against PKWARE's APPNOTE 6.3.10 and against what bombs and forgeries do.
///
/// Opening reads the end record, the directory and every local header; no member's data. Whatever two readers could read
/// differently is refused: a second end record, headers that disagree, overlapping members, doubled names.
struct ZipArchive: Sendable {
  /// A directory of a million members takes about as much; nothing of its size is read before it is compared.
  private static let maximumDirectorySize: UInt64 = 256 << 20
  /// Deflate cannot compress beyond 1032:1.
  private static let maximumRatio: UInt64 = 1100

  let file: InputFile
  /// The members in the order of the directory.
  private(set) var entries: [ZipEntry] = []
  let comment: [UInt8]
  private(set) var warnings: [String] = []
  private let positions: [TensorName: Int]

  /// Reads and checks the archive's directory.
  ///
  /// - Throws: `zip.…` with the byte; what is well-formed and not read (encryption, other methods) is of kind `unsupported`.
  init(_ file: InputFile, limits: ReadLimits) throws(SurgeryError) {
    self.file = file
    guard file.size >= UInt64(ZipEndRecord.minimumSize) else {
      throw SurgeryError(
        .data, "zip.short", "too short for a zip archive",
        expected: "at least \(ZipEndRecord.minimumSize) bytes",
        found: "\(file.size, counting: "byte")")
    }
    let magic = try file.bytes(at: 0, count: 4)
    guard magic == [0x50, 0x4B, 3, 4] || magic == [0x50, 0x4B, 5, 6] else {
      throw SurgeryError(
        .data, "zip.magic", "this is no zip archive: it does not begin with a member", offset: 0)
    }
    let end = try ZipEndRecord(of: file)
    comment = end.comment
    guard end.directoryOffset <= end.offset,
      end.directorySize == end.offset - end.directoryOffset
    else {
      throw SurgeryError(
        .data, "zip.directory", "the zip directory does not end where its end record begins",
        expected: "offset + size = \(end.offset)",
        found: "\(end.directoryOffset) + \(end.directorySize)", offset: end.offset)
    }
    guard end.directorySize <= Self.maximumDirectorySize else {
      throw SurgeryError(
        .unsupported, "zip.directory-too-large", "the zip directory is too large",
        expected: "at most \(Self.maximumDirectorySize) bytes",
        found: "\(end.directorySize, counting: "byte")")
    }
    let bytes = try file.bytes(at: end.directoryOffset, count: Int(end.directorySize))
    var scanner = ZipScanner(bytes[...], at: end.directoryOffset)
    var positions: [TensorName: Int] = [:]
    var found: UInt64 = 0
    while scanner.rest > 0 {
      let record = try ZipDirectoryRecord(&scanner)
      found += 1
      let name = TensorName(record.entry.name)
      guard positions.updateValue(entries.count, forKey: name) == nil else {
        throw record.entry.failure(
          "zip.duplicate", "a duplicate: two members have this name", offset: scanner.offset)
      }
      entries.append(try record.located(in: file, before: end.directoryOffset))
    }
    guard found == end.count else {
      throw SurgeryError(
        .data, "zip.count", "the zip directory does not hold the stated number of members",
        expected: "\(end.count)", found: "\(found)", offset: end.offset)
    }
    self.positions = positions
    try checkOverlaps()
    try checkBudget(limits)
  }

  /// The member with this name, if there is one.
  func entry(named name: String) -> ZipEntry? {
    positions[TensorName(name)].map { entries[$0] }
  }

  /// Members that share bytes multiply what an archive decodes to (Fifield, "A better zip bomb", WOOT 2019).
  private func checkOverlaps() throws(SurgeryError) {
    let ordered = entries.sorted { ($0.headerOffset, $0.end) < ($1.headerOffset, $1.end) }
    for (first, second) in zip(ordered, ordered.dropFirst())
    where second.headerOffset < first.end {
      throw second.failure(
        "zip.overlap", "the member overlaps \"\(DisplayText.escaped(first.name))\"",
        expected: "to begin at \(first.end) or later", found: "\(second.headerOffset)",
        offset: second.headerOffset)
    }
  }

  private mutating func checkBudget(_ limits: ReadLimits) throws(SurgeryError) {
    let limit = limits.inflatedBytes(ofArchive: file.size)
    var total: UInt64 = 0
    for entry in entries where entry.method == .deflated {
      let (sum, overflow) = total.addingReportingOverflow(entry.size)
      total = overflow ? .max : sum
      if entry.size / Self.maximumRatio > entry.compressedSize {
        warnings.append(
          """
          member "\(DisplayText.escaped(entry.name))" claims \(entry.size, counting: "byte") from \
          \(entry.compressedSize), more than deflate can hold
          """)
      }
    }
    guard total <= limit else {
      throw SurgeryError(
        .data, "zip.max-inflate", "the compressed members would decode to more than the limit",
        expected: "at most \(limit) bytes", found: "\(total, counting: "byte")",
        hint: "--max-inflate raises the limit")
    }
  }
}

extension ZipDirectoryRecord {
  /// The entry with the place of its data, after comparing it with its local header (APPNOTE 4.3.7).
  func located(
    in file: InputFile, before directory: UInt64
  ) throws(SurgeryError) -> ZipEntry {
    var entry = entry
    let start = entry.headerOffset
    let fixedCount = 30 + nameBytes.count
    guard start <= directory, UInt64(fixedCount) <= directory - start else {
      throw entry.failure(
        "zip.range", "the local header lies outside the archive", expected: "below \(directory)",
        found: "\(start)", offset: start)
    }
    // Most extra fields fit the first read.
    let available = directory - start
    var bytes = try file.bytes(at: start, count: Int(min(available, UInt64(fixedCount + 96))))
    guard bytes.starts(with: [0x50, 0x4B, 3, 4]) else {
      throw entry.failure(
        "zip.local-header", "no local header is where the directory says", offset: start)
    }
    let extraCount = Int(bytes[28]) | Int(bytes[29]) << 8
    guard UInt64(fixedCount + extraCount) <= available else {
      throw entry.failure(
        "zip.extra", "the extra fields of the local header reach beyond the archive",
        offset: start + 28)
    }
    if bytes.count < fixedCount + extraCount {
      bytes = try file.bytes(at: start, count: fixedCount + extraCount)
    }
    var scanner = ZipScanner(bytes[..<(fixedCount + extraCount)], at: start)
    _ = try scanner.take(6)
    let localFlags = try scanner.u16()
    let localMethod = try scanner.u16()
    _ = try scanner.take(4)
    let crc = try scanner.u32()
    var sizes = ZipSizes(
      compressed: UInt64(try scanner.u32()), size: UInt64(try scanner.u32()))
    let nameCount = Int(try scanner.u16())
    _ = try scanner.take(2)
    guard nameCount == nameBytes.count, try scanner.take(nameCount) == nameBytes else {
      throw entry.failure(
        "zip.local-header", "the name in the local header differs from the directory",
        offset: start + 30)
    }
    try sizes.resolve(scanner, for: entry)
    entry.dataOffset = start + UInt64(fixedCount + extraCount)
    let hasDescriptor = flags & 8 != 0
    guard localFlags == flags, localMethod == methodCode,
      crc == entry.crc || hasDescriptor && crc == 0,
      sizes.size == entry.size || hasDescriptor && sizes.size == 0,
      sizes.compressed == entry.compressedSize || hasDescriptor && sizes.compressed == 0
    else {
      throw entry.failure(
        "zip.local-header",
        "the local header differs from the directory in flags, method, checksum or size",
        offset: start)
    }
    guard entry.compressedSize <= directory - entry.dataOffset else {
      throw entry.failure(
        "zip.range", "the data of the member lies outside the archive",
        expected: "at most \(directory - entry.dataOffset, counting: "byte")",
        found: "\(entry.compressedSize, counting: "byte")", offset: entry.dataOffset)
    }
    entry.end = entry.dataOffset + entry.compressedSize
    if hasDescriptor { entry.end += try descriptorSize(of: entry, in: file, before: directory) }
    return entry
  }

  /// The size of the data descriptor, which writers spell in four ways (APPNOTE 4.3.9).
  private func descriptorSize(
    of entry: ZipEntry, in file: InputFile, before directory: UInt64
  ) throws(SurgeryError) -> UInt64 {
    let bytes = try file.bytes(at: entry.end, count: Int(min(directory - entry.end, 24)))
    for signature in [[0x50, 0x4B, 7, 8], []] as [[UInt8]] {
      for width in [4, 8] {
        var expected = signature
        expected.appendZip(UInt64(entry.crc), count: 4)
        expected.appendZip(entry.compressedSize, count: width)
        expected.appendZip(entry.size, count: width)
        if bytes.starts(with: expected) { return UInt64(expected.count) }
      }
    }
    throw entry.failure(
      "zip.descriptor", "the data descriptor is missing or differs from the directory",
      offset: entry.end)
  }
}
