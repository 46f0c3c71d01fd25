import Tensors

/// The numbers of the compact adapter format; `man/lora-surgery-format.5` is its specification.
public enum CompactFormat {
  /// The first bytes: a high bit, a name, both line ends and the end of a DOS text, each of which some careless copy changes.
  static let magic: [UInt8] = [0x8B, 0x4C, 0x52, 0x41, 0x0D, 0x0A, 0x1A, 0x0A]
  /// The version that is written, and the newest that is read.
  static let version: UInt16 = 1
  /// Bytes before the first page.
  static let preambleSize = 64
  /// Pages and header begin at multiples of this, so that 16-byte vector loads from a mapped raw plane are aligned.
  static let alignment = 16
  /// Elements of one page.
  ///
  /// The last page of a tensor holds the rest. 1 MiB of F32 is a unit that fits second-level caches.
  static let elementsPerPage = 1 << 18
  /// The most elements of one row of a quantised tensor, since its rows are never split over pages.
  public static let maximumQuantisedColumns = 1 << 22
  /// The most bytes of the header's text: three times what a mixture of 100 layers of 384 experts takes.
  static let maximumHeaderSize: UInt64 = 1 << 27
  /// The most bytes of text for one byte of stored header; writers that would exceed it store the text as it is.
  static let maximumHeaderRatio: UInt64 = 64
  /// What the features of a file are called that a reader must know; others are refused.
  static let knownFeatures: Set<String> = ["quantised"]

  /// The next multiple of the alignment, or `nil` beyond 2^64.
  static func aligned(_ position: UInt64) -> UInt64? {
    let (sum, overflow) = position.addingReportingOverflow(UInt64(alignment - 1))
    return overflow ? nil : sum & ~UInt64(alignment - 1)
  }

  /// The most bytes that the tensors of a file may decode to.
  ///
  /// Weights shrink to a tenth at best; a page of zeros shrinks 100,000 times, which is a bomb and no adapter.
  static func maximumExpansion(ofFile size: UInt64) -> UInt64 {
    let (scaled, overflow) = size.multipliedReportingOverflow(by: 64)
    return overflow ? .max : max(scaled, 1 << 30)
  }
}

extension SurgeryError {
  /// A compact file that breaks a rule of its format (exit status 65); ids begin with `lra.`.
  static func lra(
    _ id: String, _ what: String, tensor: String? = nil, expected: String? = nil,
    found: String? = nil, offset: UInt64? = nil, hint: String? = nil
  ) -> Self {
    Self(
      .data, "lra.\(id)", what, tensor: tensor, expected: expected, found: found, offset: offset,
      hint: hint)
  }
}

/// The fixed part of a compact file, its first 64 bytes.
struct CompactPreamble: Hashable {
  /// Position of the stored header.
  var headerOffset: UInt64
  /// Bytes of the header as stored.
  var storedHeaderSize: UInt64
  /// Bytes of the header's text; equal to the stored size where it is not deflated.
  var headerSize: UInt64
  /// CRC-32 of the header as stored.
  var headerCRC: UInt32
  /// CRC-32 of everything behind the preamble.
  var bodyCRC: UInt32

  /// The bytes.
  var encoded: [UInt8] {
    var bytes = CompactFormat.magic
    bytes.appendLittleEndian(CompactFormat.version)
    bytes.appendLittleEndian(UInt16(0))
    bytes.appendLittleEndian(headerCRC)
    bytes.appendLittleEndian(headerOffset)
    bytes.appendLittleEndian(storedHeaderSize)
    bytes.appendLittleEndian(headerSize)
    bytes.appendLittleEndian(headerOffset + storedHeaderSize)
    bytes.appendLittleEndian(bodyCRC)
    bytes.appendLittleEndian(UInt64(0))
    bytes.appendLittleEndian(CRC32.of(bytes))
    return bytes
  }

  /// Creates a preamble from its numbers.
  init(
    headerOffset: UInt64, storedHeaderSize: UInt64, headerSize: UInt64, headerCRC: UInt32,
    bodyCRC: UInt32
  ) {
    self.headerOffset = headerOffset
    self.storedHeaderSize = storedHeaderSize
    self.headerSize = headerSize
    self.headerCRC = headerCRC
    self.bodyCRC = bodyCRC
  }

  /// Reads and checks the preamble of a file of `fileSize` bytes.
  ///
  /// - Throws: `lra.short`, `lra.text-mode`, `lra.magic`, `lra.version`, `lra.preamble-crc`, `lra.flags`, `lra.reserved`,
  ///   `lra.size`, `lra.header-place` or `lra.header-too-large`.
  init(_ bytes: [UInt8], fileSize: UInt64) throws(SurgeryError) {
    try Self.checkMagic(bytes)
    guard bytes.count >= CompactFormat.preambleSize else {
      throw SurgeryError.lra(
        "short", "the file is shorter than its preamble",
        expected: "\(CompactFormat.preambleSize) bytes", found: "\(bytes.count, counting: "byte")",
        hint: "download it again")
    }
    let version = bytes.littleEndian32(at: 8) & 0xFFFF
    guard version == CompactFormat.version else {
      throw SurgeryError(
        version == 0 ? .data : .unsupported, "lra.version",
        "the file is of a version that is not read", expected: "\(CompactFormat.version)",
        found: "\(version)", offset: 8, hint: version == 0 ? nil : "use a newer lora-surgery")
    }
    let crc = CRC32.of(Array(bytes[..<60]))
    guard crc == bytes.littleEndian32(at: 60) else {
      throw SurgeryError.lra(
        "preamble-crc", "the preamble is damaged", expected: crc.hexadecimal,
        found: bytes.littleEndian32(at: 60).hexadecimal, offset: 60, hint: "download it again")
    }
    let flags = bytes.littleEndian32(at: 8) >> 16
    guard flags == 0 else {
      throw SurgeryError(
        .unsupported, "lra.flags", "the file has flags that are not known", expected: "0",
        found: "\(flags)", offset: 10, hint: "use a newer lora-surgery")
    }
    guard bytes.littleEndian64(at: 52) == 0 else {
      throw SurgeryError.lra("reserved", "reserved bytes are not zero", offset: 52)
    }
    self.init(
      headerOffset: bytes.littleEndian64(at: 16), storedHeaderSize: bytes.littleEndian64(at: 24),
      headerSize: bytes.littleEndian64(at: 32), headerCRC: bytes.littleEndian32(at: 12),
      bodyCRC: bytes.littleEndian32(at: 48))
    try checkPlaces(said: bytes.littleEndian64(at: 40), fileSize: fileSize)
  }

  private static func checkMagic(_ bytes: [UInt8]) throws(SurgeryError) {
    if bytes.starts(with: CompactFormat.magic) { return }
    let name = Array(CompactFormat.magic[1..<4])
    if bytes.dropFirst().starts(with: name) || bytes.starts(with: name) {
      throw SurgeryError.lra(
        "text-mode", "the file was changed by a copy that took it for text",
        expected: CompactFormat.magic.map { UInt32($0).hexadecimal.suffix(2) }.joined(),
        found: bytes.prefix(8).map { UInt32($0).hexadecimal.suffix(2) }.joined(), offset: 0,
        hint: "copy it in binary mode")
    }
    throw SurgeryError.lra("magic", "this is no compact adapter", offset: 0)
  }

  private func checkPlaces(said: UInt64, fileSize: UInt64) throws(SurgeryError) {
    guard said == fileSize else {
      throw SurgeryError.lra(
        "size", "the file has another size than it says", expected: "\(said, counting: "byte")",
        found: "\(fileSize, counting: "byte")", offset: 40, hint: "download it again")
    }
    let (end, overflow) = headerOffset.addingReportingOverflow(storedHeaderSize)
    guard !overflow, end == fileSize, headerOffset >= UInt64(CompactFormat.preambleSize),
      headerOffset % UInt64(CompactFormat.alignment) == 0, storedHeaderSize > 0
    else {
      throw SurgeryError.lra(
        "header-place", "the header does not end the file", expected: "\(fileSize)",
        found: "\(headerOffset) + \(storedHeaderSize)", offset: 16)
    }
    let limit = min(
      CompactFormat.maximumHeaderSize,
      storedHeaderSize.multipliedReportingOverflow(by: CompactFormat.maximumHeaderRatio)
        .partialValue)
    guard headerSize <= limit, headerSize >= 2,
      storedHeaderSize <= CompactFormat.maximumHeaderSize
    else {
      throw SurgeryError.lra(
        "header-too-large", "the header's text is too large for its stored bytes",
        expected: "2 to \(limit) bytes", found: "\(headerSize, counting: "byte")", offset: 32)
    }
  }
}

extension UInt32 {
  /// Eight hexadecimal digits.
  var hexadecimal: String {
    let digits = String(self, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }
}

extension [UInt8] {
  /// The CRC-32 of the bytes, as zlib computes it.
  public var crc32: UInt32 { CRC32.of(self) }
}
