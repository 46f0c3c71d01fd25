import Tensors

/// A run of bytes inside a page: as it is, deflated, or one value repeated.
///
/// In the page, the words of all planes come first, then their data. A word is 32 bits, little-endian: bytes of data in the
/// low 30, the method in the high 2.
enum CompactPlane {
  /// How a plane lies in its page.
  enum Method: UInt32 {
    /// The bytes themselves.
    case raw
    /// One raw deflate stream.
    case deflated
    /// A single byte that stands for all.
    case fill
  }

  /// Bytes of a plane's word.
  static let wordSize = 4

  /// A plane that is to be encoded.
  struct Plain {
    /// Fewer than 2^30 bytes.
    var bytes: [UInt8]
    /// Where deflate blocks may end; the last is the end of the plane.
    var cuts: [Int]
    /// Whether zlib's search for repeats is tried, which only few data repay.
    var findsRepeats: Bool

    /// A plane that may be cut where its statistics may change; without better knowledge, every 16 KiB.
    init(_ bytes: [UInt8], cuts: [Int]? = nil, findsRepeats: Bool) {
      self.bytes = bytes
      self.cuts = cuts ?? Array(stride(from: 1 << 14, to: bytes.count, by: 1 << 14)) + [bytes.count]
      self.findsRepeats = findsRepeats
    }
  }

  /// Encodes planes as a page.
  ///
  /// - Parameter planes: The planes in the order of the page.
  /// - Returns: Words and data.
  /// - Throws: `zip.memory`.
  static func encode(_ planes: [Plain]) throws(SurgeryError) -> [UInt8] {
    var page: [UInt8] = []
    var data: [UInt8] = []
    for plane in planes {
      let (method, bytes) = try encode(plane)
      page.appendLittleEndian(UInt32(bytes.count) | method.rawValue << 30)
      data += bytes
    }
    return page + data
  }

  private static func encode(_ plain: Plain) throws(SurgeryError) -> (Method, [UInt8]) {
    let plane = plain.bytes
    guard let first = plane.first else { return (.raw, []) }
    let counts = LiteralDeflate.histogram(plane, plane.indices)
    let most = Int(counts.max() ?? 0)
    if most == plane.count { return (.fill, [first]) }
    var best = LiteralDeflate.encode(plane, cuts: plain.cuts)
    if plain.findsRepeats || most > plane.count / 2 {
      let deflated = try deflate(plane)
      if deflated.count < best?.count ?? plane.count { best = deflated }
    }
    return best.map { (.deflated, $0) } ?? (.raw, plane)
  }

  private static func deflate(_ bytes: [UInt8]) throws(SurgeryError) -> [UInt8] {
    let deflater = try Deflater(level: 6)
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    var result: [UInt8] = []
    try unsafe deflater.encode(bytes.span.bytes, isLast: true, through: &buffer) { piece in
      unsafe piece.withUnsafeBytes { unsafe result.append(contentsOf: $0) }
    }
    return result
  }

  /// A plane found in a page.
  struct Stored {
    var method: Method
    var range: Range<Int>
  }

  /// Finds the planes of a page.
  ///
  /// - Parameters:
  ///   - page: The page's bytes.
  ///   - start: Where the words begin.
  ///   - count: The number of planes.
  /// - Returns: Where each plane's data lies.
  /// - Throws: `lra.page` where words and data do not fill the page exactly.
  static func planes(
    of page: [UInt8], from start: Int, count: Int
  ) throws(SurgeryError) -> [Stored] {
    var position = start + count * wordSize
    guard position <= page.count else {
      throw SurgeryError.lra(
        "page", "a page is shorter than the words of its planes",
        expected: "\(position, counting: "byte")",
        found: "\(page.count, counting: "byte")")
    }
    var planes: [Stored] = []
    for index in 0..<count {
      let word = page.littleEndian32(at: start + index * wordSize)
      let size = Int(word & 0x3FFF_FFFF)
      guard let method = Method(rawValue: word >> 30) else {
        throw SurgeryError.lra("page", "a plane has an unknown method", found: "\(word >> 30)")
      }
      guard size <= page.count - position else {
        throw SurgeryError.lra(
          "page", "a plane reaches beyond its page",
          expected: "\(page.count - position, counting: "byte")",
          found: "\(size, counting: "byte")")
      }
      planes.append(Stored(method: method, range: position..<(position + size)))
      position += size
    }
    guard position == page.count else {
      throw SurgeryError.lra(
        "page", "bytes follow the planes of a page", expected: "\(position, counting: "byte")",
        found: "\(page.count, counting: "byte")")
    }
    return planes
  }

  /// Decodes a plane into exactly `target`.
  ///
  /// - Parameters:
  ///   - plane: Where the plane lies.
  ///   - page: The page's bytes.
  ///   - target: Filled completely.
  /// - Throws: `lra.page` for a plane of another size, `lra.deflate` for a damaged stream.
  static func decode(
    _ plane: Stored, of page: [UInt8], into target: inout MutableRawSpan
  ) throws(SurgeryError) {
    let expected = target.byteCount
    switch plane.method {
    case .raw:
      guard plane.range.count == expected else { throw wrongSize(plane, expected: expected) }
      unsafe target.withUnsafeMutableBytes { out in
        unsafe page.span.extracting(plane.range).withUnsafeBufferPointer {
          unsafe out.copyBytes(from: $0)
        }
      }
    case .fill:
      guard plane.range.count == 1 else { throw wrongSize(plane, expected: 1) }
      let value = page[plane.range.lowerBound]
      unsafe target.withUnsafeMutableBytes { out in
        for index in out.indices { unsafe out[index] = value }
      }
    case .deflated:
      try inflate(page.span.extracting(plane.range), into: &target)
    }
  }

  private static func wrongSize(_ plane: Stored, expected: Int) -> SurgeryError {
    .lra(
      "page", "a plane of a page has a wrong size", expected: "\(expected, counting: "byte")",
      found: "\(plane.range.count, counting: "byte")")
  }

  /// Inflates one stream that must give exactly `target` and end exactly with its input.
  static func inflate(
    _ source: Span<UInt8>, into target: inout MutableRawSpan
  ) throws(SurgeryError) {
    if LiteralInflate.decode(source, into: &target) { return }
    let inflater = try Inflater()
    let input = unsafe source.bytes
    var (read, written) = (0, 0)
    var spare: [UInt8] = [0]
    while true {
      let step: Inflater.Step
      do throws(SurgeryError) {
        if written < target.byteCount {
          var rest = target._mutatingExtracting(written..<target.byteCount)
          step = try inflater.step(input.extracting(read..<input.byteCount), into: &rest)
          written += step.produced
        } else {
          // A stream that has more to give shows it by one byte.
          step = try spare.withMutableRawSpan(0..<1) { (rest) throws(SurgeryError) in
            try inflater.step(input.extracting(read..<input.byteCount), into: &rest)
          }
          if step.produced > 0 { throw SurgeryError.lra("deflate", "a deflated plane is too long") }
        }
      } catch {
        throw error.id == "zip.deflate"
          ? SurgeryError.lra("deflate", "a plane is no deflate stream") : error
      }
      read += step.consumed
      if step.isAtEnd { break }
      if step.produced == 0, step.consumed == 0 {
        throw SurgeryError.lra("deflate", "a deflated plane is cut short")
      }
    }
    guard written == target.byteCount, read == input.byteCount else {
      throw SurgeryError.lra(
        "deflate", "a deflated plane has a wrong size",
        expected: "\(target.byteCount, counting: "byte")",
        found: "\(written, counting: "byte")")
    }
  }
}

extension [UInt8] {
  /// Appends an integer, lowest byte first.
  mutating func appendLittleEndian<Number: FixedWidthInteger & UnsignedInteger>(_ value: Number) {
    for index in 0..<MemoryLayout<Number>.size {
      append(UInt8(truncatingIfNeeded: value >> (8 * Number(index))))
    }
  }

  /// The 32-bit integer that begins at `offset`, lowest byte first; the caller has checked the bounds.
  func littleEndian32(at offset: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(self[offset + $1]) << (8 * UInt32($1)) }
  }

  /// The 64-bit integer that begins at `offset`, lowest byte first; the caller has checked the bounds.
  func littleEndian64(at offset: Int) -> UInt64 {
    UInt64(littleEndian32(at: offset)) | UInt64(littleEndian32(at: offset + 4)) << 32
  }
}
