import Tensors

/// A deflate encoder (RFC 1951) that writes literals only, in blocks cut where their statistics change.
///
/// Exponents and quantised codes have no repeats to find, only skewed counts; looking for repeats costs time and, by zlib's
/// block cutting, space. The bytes depend on the input alone, not on a library's version.
struct LiteralDeflate {
  private var bits: UInt64 = 0
  private var bitCount: UInt64 = 0
  private var output: [UInt8] = []

  /// Encodes bytes as one complete deflate stream.
  ///
  /// - Parameters:
  ///   - bytes: What to encode.
  ///   - cuts: Where blocks may end, ascending; the last is the end of the bytes.
  /// - Returns: The stream, or `nil` where it would not save a sixty-fourth.
  static func encode(_ bytes: [UInt8], cuts: [Int]) -> [UInt8]? {
    let blocks = blocks(of: bytes, cuts: cuts)
    let codes = blocks.map(\.code)
    let cost = zip(blocks, codes).reduce(0) { $0 + $1.1.cost($1.0.counts) + 400 }
    // A stream that saves next to nothing is not worth the reader's time.
    guard cost < bytes.count * 8 - bytes.count / 8 else { return nil }
    var encoder = LiteralDeflate()
    encoder.output.reserveCapacity(cost / 8 + 64 * blocks.count)
    for (index, (block, code)) in zip(blocks, codes).enumerated() {
      encoder.write(bytes, block.range, code, isLast: index == blocks.count - 1)
    }
    encoder.flush()
    return encoder.output
  }

  /// How often each byte value occurs in a range.
  static func histogram(_ bytes: [UInt8], _ range: Range<Int>) -> [UInt32] {
    // Four tables, so that equal neighbours do not wait for each other.
    var tables = [UInt32](repeating: 0, count: 4 * 257)
    let source = bytes.span
    var counts = tables.mutableSpan
    var index = range.lowerBound
    while index &+ 4 <= range.upperBound {
      counts[Int(source[index])] &+= 1
      counts[257 &+ Int(source[index &+ 1])] &+= 1
      counts[514 &+ Int(source[index &+ 2])] &+= 1
      counts[771 &+ Int(source[index &+ 3])] &+= 1
      index &+= 4
    }
    while index < range.upperBound {
      counts[Int(source[index])] &+= 1
      index &+= 1
    }
    return (0..<257).map { tables[$0] + tables[257 + $0] + tables[514 + $0] + tables[771 + $0] }
  }

  private struct Block {
    var range: Range<Int>
    var counts: [UInt32]
    /// Bits of the block, by an estimate: a prefix code for every unit of bytes would take longer than all else.
    let cost: Double

    init(_ range: Range<Int>, _ counts: [UInt32]) {
      self.range = range
      self.counts = counts
      cost = estimatedBits(counts) + 80
    }

    var code: HuffmanCode { HuffmanCode(counts: counts, limit: LiteralInflate.maximumBits) }
  }

  /// Joins neighbouring units wherever one table for both costs no more than two.
  private static func blocks(of bytes: [UInt8], cuts: [Int]) -> [Block] {
    var blocks: [Block] = []
    var start = 0
    for cut in cuts where cut > start {
      let range = start..<cut
      start = cut
      var counts = histogram(bytes, range)
      counts[256] = 1
      let own = Block(range, counts)
      guard let last = blocks.last else {
        blocks.append(own)
        continue
      }
      var joint = zip(last.counts, counts).map { $0 + $1 }
      joint[256] = 1
      let joined = Block(last.range.lowerBound..<range.upperBound, joint)
      if joined.cost <= last.cost + own.cost {
        blocks[blocks.count - 1] = joined
      } else {
        blocks.append(own)
      }
    }
    return blocks
  }

  private mutating func write(
    _ bytes: [UInt8], _ range: Range<Int>, _ code: HuffmanCode, isLast: Bool
  ) {
    put(isLast ? 1 : 0, 1)
    put(2, 2)
    writeTable(code)
    let (lengths, patterns) = (code.lengths, code.patterns)
    let codes = (0..<256).map { UInt32(patterns[$0]) << 8 | UInt32(lengths[$0]) }
    encode(bytes, range, codes)
    put(UInt64(patterns[256]), UInt64(lengths[256]))
  }

  /// The hot loop: three codes, 45 bits at most, between two stores.
  private mutating func encode(_ bytes: [UInt8], _ range: Range<Int>, _ codes: [UInt32]) {
    let start = output.count
    // Four bytes beyond the bits that are written give the eight-byte stores room.
    let room = range.count * 2 + 16
    output.append(contentsOf: repeatElement(0, count: room))
    var (bits, count, position) = (bits, bitCount, start)
    unsafe bytes.withUnsafeBufferPointer { source in
      unsafe codes.withUnsafeBufferPointer { codes in
        unsafe output.withUnsafeMutableBytes { target in
          var index = range.lowerBound
          while index < range.upperBound {
            let end = min(index &+ 3, range.upperBound)
            while index < end {
              let code = unsafe codes[Int(source[index])]
              bits |= UInt64(code >> 8) &<< count
              count &+= UInt64(code & 0xFF)
              index &+= 1
            }
            unsafe target.storeBytes(
              of: bits.littleEndian, toByteOffset: position, as: UInt64.self)
            position &+= Int(count >> 3)
            bits &>>= count & ~7
            count &= 7
          }
        }
      }
    }
    output.removeLast(start + room - position)
    (self.bits, bitCount) = (bits, count)
  }

  /// The code lengths of a dynamic block (RFC 1951, section 3.2.7), without run lengths but for zeros.
  private mutating func writeTable(_ code: HuffmanCode) {
    // Two distance codes of one bit, as zlib writes where there are none, since some readers insist on a full code.
    let lengths = code.lengths + [1, 1]
    let items = Self.items(lengths)
    var counts = [UInt32](repeating: 0, count: 19)
    for item in items { counts[Int(item.symbol)] += 1 }
    let own = HuffmanCode(counts: counts, limit: 7)
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    let used = max(4, (order.lastIndex { own.lengths[$0] > 0 } ?? 0) + 1)
    put(0, 5)
    put(1, 5)
    put(UInt64(used - 4), 4)
    for symbol in order.prefix(used) { put(UInt64(own.lengths[symbol]), 3) }
    for item in items {
      put(UInt64(own.patterns[Int(item.symbol)]), UInt64(own.lengths[Int(item.symbol)]))
      put(UInt64(item.extra), UInt64(item.extraBits))
    }
  }

  private struct Item {
    var symbol: UInt8
    var extra: Int
    var extraBits: Int
  }

  private static func items(_ lengths: [UInt8]) -> [Item] {
    var items: [Item] = []
    var index = 0
    while index < lengths.count {
      let value = lengths[index]
      var run = 1
      while index + run < lengths.count, lengths[index + run] == value { run += 1 }
      index += run
      if value != 0 {
        items.append(Item(symbol: value, extra: 0, extraBits: 0))
        run -= 1
        while run >= 3 {
          let part = min(run, 6)
          items.append(Item(symbol: 16, extra: part - 3, extraBits: 2))
          run -= part
        }
      }
      while value == 0, run >= 3 {
        let part = min(run, 138)
        items.append(
          part < 11
            ? Item(symbol: 17, extra: part - 3, extraBits: 3)
            : Item(symbol: 18, extra: part - 11, extraBits: 7))
        run -= part
      }
      for _ in 0..<run { items.append(Item(symbol: value, extra: 0, extraBits: 0)) }
    }
    return items
  }

  private mutating func put(_ value: UInt64, _ count: UInt64) {
    bits |= value << bitCount
    bitCount += count
    while bitCount >= 8 {
      output.append(UInt8(truncatingIfNeeded: bits))
      bits >>= 8
      bitCount -= 8
    }
  }

  private mutating func flush() {
    if bitCount > 0 { output.append(UInt8(truncatingIfNeeded: bits)) }
    (bits, bitCount) = (0, 0)
  }
}
