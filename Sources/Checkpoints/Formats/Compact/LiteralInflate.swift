import Tensors

/// A decoder of deflate streams that hold literals only, several symbols a step; three to four times zlib's speed on them.
///
/// It gives up on whatever it does not expect (repeats, long codes, damage), and zlib then says what is in the stream: this
/// decoder can be faster, but never of another opinion.
struct LiteralInflate {
  /// The longest code that the table resolves; what this program writes has none longer.
  static let maximumBits = 13

  /// Bits read but not used, lowest first.
  private var bits: UInt64 = 0
  private var bitCount = 0
  private var position = 0
  private var written = 0

  /// Decodes a stream that fills `target` exactly and ends with its input.
  ///
  /// - Parameters:
  ///   - source: The stream.
  ///   - target: Filled completely where the result is true; otherwise its contents mean nothing.
  /// - Returns: Whether all went as expected.
  static func decode(_ source: Span<UInt8>, into target: inout MutableRawSpan) -> Bool {
    unsafe source.withUnsafeBytes { input in
      unsafe target.withUnsafeMutableBytes { output in
        var decoder = LiteralInflate()
        return unsafe decoder.run(input, output)
      }
    }
  }

  private mutating func run(
    _ input: UnsafeRawBufferPointer, _ output: UnsafeMutableRawBufferPointer
  ) -> Bool {
    while true {
      guard let last = unsafe take(1, input), let kind = unsafe take(2, input), kind == 2,
        let lengths = unsafe readLengths(input), let table = Self.table(of: lengths)
      else { return false }
      guard unsafe decode(table, input, output) else { return false }
      if last == 1 { break }
    }
    let unread = bitCount / 8
    return written == output.count && position - unread == input.count
  }

  /// The next bits as a number.
  private mutating func take(_ count: Int, _ input: UnsafeRawBufferPointer) -> Int? {
    while bitCount < count {
      guard position < input.count else { return nil }
      unsafe bits |= UInt64(input[position]) << UInt64(bitCount)
      position += 1
      bitCount += 8
    }
    let value = Int(bits & ((1 << UInt64(count)) - 1))
    bits >>= UInt64(count)
    bitCount -= count
    return value
  }

  /// The code lengths of a dynamic block (RFC 1951, section 3.2.7).
  private mutating func readLengths(_ input: UnsafeRawBufferPointer) -> [UInt8]? {
    guard let literals = unsafe take(5, input), let distances = unsafe take(5, input),
      let used = unsafe take(4, input), literals == 0
    else { return nil }
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    var own = [UInt8](repeating: 0, count: 19)
    for symbol in order.prefix(used + 4) {
      guard let length = unsafe take(3, input) else { return nil }
      own[symbol] = UInt8(length)
    }
    guard let codes = Self.singles(of: own, bits: 7) else { return nil }
    let total = 257 + distances + 1
    var lengths: [UInt8] = []
    while lengths.count < total {
      guard let symbol = unsafe symbol(codes, input) else { return nil }
      if symbol < 16 {
        lengths.append(UInt8(symbol))
        continue
      }
      let (base, extra) = symbol == 16 ? (3, 2) : symbol == 17 ? (3, 3) : (11, 7)
      guard let more = unsafe take(extra, input), lengths.count + base + more <= total,
        let value = symbol == 16 ? lengths.last : 0
      else { return nil }
      lengths.append(contentsOf: repeatElement(value, count: base + more))
    }
    return Array(lengths[..<257])
  }

  /// One symbol of the code of code lengths.
  private mutating func symbol(_ codes: [UInt16], _ input: UnsafeRawBufferPointer) -> Int? {
    while bitCount < 7, position < input.count {
      unsafe bits |= UInt64(input[position]) << UInt64(bitCount)
      position += 1
      bitCount += 8
    }
    let entry = codes[Int(bits & 127)]
    let length = Int(entry >> 12)
    guard length <= bitCount else { return nil }
    bits >>= UInt64(length)
    bitCount -= length
    return Int(entry & 0xFFF)
  }

  /// For every pattern of `bits` bits its first symbol, with the code's length in the high four bits.
  private static func singles(of lengths: [UInt8], bits: Int) -> [UInt16]? {
    var kraft = 0
    for length in lengths where length > 0 {
      guard Int(length) <= bits else { return nil }
      kraft += 1 << (bits - Int(length))
    }
    guard kraft == 1 << bits else { return nil }
    let patterns = HuffmanCode.patterns(lengths)
    var table = [UInt16](repeating: 0, count: 1 << bits)
    for (symbol, length) in lengths.enumerated() where length > 0 {
      var index = Int(patterns[symbol])
      while index < table.count {
        table[index] = UInt16(symbol) | UInt16(length) << 12
        index += 1 << Int(length)
      }
    }
    return table
  }

  /// For every pattern up to three literals: their bytes, their number (2 bits from bit 24), the bits used (from bit 26).
  ///
  /// The end of the block has number 0.
  private static func table(of lengths: [UInt8]) -> (entries: [UInt32], bits: Int)? {
    let bits = Int(lengths.max() ?? 0)
    guard bits > 0, bits <= maximumBits, lengths[256] > 0,
      let singles = singles(of: lengths, bits: bits)
    else { return nil }
    var table = [UInt32](repeating: 0, count: 1 << bits)
    for index in table.indices {
      var entry: UInt32 = 0
      var (used, count) = (0, 0)
      while count < 3 {
        let single = singles[index >> used]
        let length = Int(single >> 12)
        // Bits beyond the pattern are unknown, so a code must end within it.
        guard used + length <= bits else { break }
        let symbol = UInt32(single & 0xFFF)
        if symbol == 256 {
          if count == 0 { used = length }
          break
        }
        entry |= symbol << UInt32(8 * count)
        used += length
        count += 1
      }
      table[index] = entry | UInt32(count) << 24 | UInt32(used) << 26
    }
    return (table, bits)
  }

  /// The hot loop: four lookups between two loads.
  private mutating func decode(
    _ table: (entries: [UInt32], bits: Int), _ input: UnsafeRawBufferPointer,
    _ output: UnsafeMutableRawBufferPointer
  ) -> Bool {
    let mask = UInt64(table.entries.count - 1)
    var (bits, bitCount, position, written) = (bits, bitCount, position, written)
    defer {
      (self.bits, self.bitCount) = (bits, bitCount)
      (self.position, self.written) = (position, written)
    }
    return unsafe table.entries.withUnsafeBufferPointer { entries in
      while true {
        // Twelve literals at most come of four lookups, and the store of the last reaches one byte further.
        if position &+ 8 <= input.count, written &+ 16 <= output.count {
          unsafe bits |=
            UInt64(
              littleEndian: input.loadUnaligned(fromByteOffset: position, as: UInt64.self))
            &<< UInt64(bitCount)
          position &+= (63 &- bitCount) &>> 3
          bitCount |= 56
          for _ in 0..<4 {
            let entry = unsafe entries[Int(bits & mask)]
            unsafe output.storeBytes(
              of: entry.littleEndian, toByteOffset: written, as: UInt32.self)
            let used = entry &>> 26
            bits &>>= UInt64(used)
            bitCount &-= Int(used)
            let count = Int(entry &>> 24) & 3
            if count == 0 { return true }
            written &+= count
          }
          continue
        }
        // Near either end: one lookup at a time, literal by literal.
        while bitCount <= 56, position < input.count {
          unsafe bits |= UInt64(input[position]) << UInt64(bitCount)
          position += 1
          bitCount += 8
        }
        let entry = unsafe entries[Int(bits & mask)]
        let used = Int(entry >> 26)
        let count = Int(entry >> 24) & 3
        guard used <= bitCount, used > 0, written + count <= output.count else { return false }
        for index in 0..<count {
          unsafe output[written + index] = UInt8(truncatingIfNeeded: entry >> UInt32(8 * index))
        }
        bits >>= UInt64(used)
        bitCount -= used
        if count == 0 { return true }
        written += count
      }
    }
  }
}
