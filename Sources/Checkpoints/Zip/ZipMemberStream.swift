import Tensors

/// The bytes of one member from front to back, with their checksum.
///
/// At the declared end the deflate stream must end too, exactly at its compressed size, and the checksum must agree. What a
/// member decodes to beyond its declared size is never produced: one byte more is an error.
struct ZipMemberStream {
  private static let bufferSize = 1 << 16

  private let file: InputFile
  private let entry: ZipEntry
  private let checksCRC: Bool
  private let inflater: Inflater?
  private var crc: UInt32 = 0
  private var input: [UInt8] = []
  private var inputPosition = 0
  /// Compressed bytes read from the file.
  private var compressedPosition: UInt64 = 0
  private var hasEnded = false
  /// Bytes delivered.
  private(set) var position: UInt64 = 0

  init(_ entry: ZipEntry, in file: InputFile, checksCRC: Bool) throws(SurgeryError) {
    self.file = file
    self.entry = entry
    self.checksCRC = checksCRC
    inflater = entry.method == .deflated ? try Inflater() : nil
  }

  /// Fills `target` with the next bytes; the caller stays within the declared size.
  ///
  /// - Throws: `zip.crc`, `zip.deflate` or `zip.size` with the member, or what reading throws.
  mutating func read(into target: inout MutableRawSpan) throws(SurgeryError) {
    precondition(
      UInt64(target.byteCount) <= entry.size - position, "read beyond member \(entry.name)")
    if let inflater {
      try inflate(inflater, into: &target)
    } else {
      try file.read(at: entry.dataOffset + position, into: &target)
    }
    if checksCRC { crc = CRC32.update(crc, target.bytes) }
    position += UInt64(target.byteCount)
    if position == entry.size { try finish() }
  }

  /// Reads up to `count` bytes to no purpose but their checksum.
  mutating func skip(_ count: UInt64) throws(SurgeryError) {
    var left = count
    var scratch = [UInt8](repeating: 0, count: Int(min(left, 1 << 18)))
    while left > 0 {
      let size = Int(min(left, UInt64(scratch.count)))
      try scratch.withMutableRawSpan(0..<size) { (target) throws(SurgeryError) in
        try read(into: &target)
      }
      left -= UInt64(size)
    }
  }

  /// Reads whatever is left, so that the whole member is checked.
  mutating func drain() throws(SurgeryError) {
    if entry.size == 0 { try finish() }
    try skip(entry.size - position)
  }

  private mutating func inflate(
    _ inflater: Inflater, into target: inout MutableRawSpan
  ) throws(SurgeryError) {
    var done = 0
    while done < target.byteCount {
      guard !hasEnded else {
        throw entry.failure(
          "zip.size", "the member decodes to less than its declared size",
          expected: "\(entry.size, counting: "byte")",
          found: "\(position + UInt64(done), counting: "byte")")
      }
      try refill()
      var rest = target._mutatingExtracting(done..<target.byteCount)
      done += try step(inflater, into: &rest)
    }
  }

  /// One step of decoding; an empty input with no progress is a cut stream.
  private mutating func step(
    _ inflater: Inflater, into target: inout MutableRawSpan
  ) throws(SurgeryError) -> Int {
    let available = input.count - inputPosition
    let step: Inflater.Step
    do throws(SurgeryError) {
      step = try unsafe inflater.step(
        input.span.extracting(inputPosition...).bytes, into: &target)
    } catch {
      throw entry.failure(error.id, error.what, offset: entry.dataOffset, kind: error.kind)
    }
    inputPosition += step.consumed
    hasEnded = step.isAtEnd
    if step.produced == 0, step.consumed == 0, !hasEnded, available == 0 {
      throw entry.failure(
        "zip.deflate", "the compressed bytes of the member are cut short",
        offset: entry.dataOffset + entry.compressedSize)
    }
    return step.produced
  }

  private mutating func refill() throws(SurgeryError) {
    guard inputPosition == input.count, compressedPosition < entry.compressedSize else { return }
    let count = Int(min(entry.compressedSize - compressedPosition, UInt64(Self.bufferSize)))
    if input.count != count { input = [UInt8](repeating: 0, count: count) }
    let offset = entry.dataOffset + compressedPosition
    try input.withMutableRawSpan(0..<count) { [file] (target) throws(SurgeryError) in
      try file.read(at: offset, into: &target)
    }
    compressedPosition += UInt64(count)
    inputPosition = 0
  }

  private mutating func finish() throws(SurgeryError) {
    if let inflater {
      var extra: [UInt8] = [0]
      while !hasEnded {
        try refill()
        let produced = try extra.withMutableRawSpan(0..<1) { (target) throws(SurgeryError) in
          try step(inflater, into: &target)
        }
        guard produced == 0 else {
          throw entry.failure(
            "zip.size", "the member decodes to more than its declared size",
            expected: "\(entry.size, counting: "byte")",
            found: "at least \(entry.size + 1, counting: "byte")")
        }
      }
      guard inputPosition == input.count, compressedPosition == entry.compressedSize else {
        throw entry.failure(
          "zip.deflate", "bytes follow the compressed data inside the member",
          offset: entry.dataOffset + compressedPosition - UInt64(input.count - inputPosition))
      }
    }
    guard !checksCRC || crc == entry.crc else {
      throw entry.failure(
        "zip.crc", "the CRC of the member's data does not agree: the file is damaged",
        expected: Self.hexadecimal(entry.crc), found: Self.hexadecimal(crc),
        offset: entry.dataOffset)
    }
  }

  private static func hexadecimal(_ value: UInt32) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }
}
