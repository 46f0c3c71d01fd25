/// A prefix code for deflate blocks: one length and one bit pattern a symbol.
///
/// Lengths are Huffman's (1952), shortened to the limit where they exceed it by lengthening cheaper codes until Kraft's
/// sum fits; patterns are the canonical ones of RFC 1951, section 3.2.2, already reversed for a writer that begins with
/// the lowest bit. Only integers decide, so every machine makes the same code.
struct HuffmanCode {
  /// Bits of each symbol's code; 0 for symbols that do not occur.
  private(set) var lengths: [UInt8]
  /// Each symbol's code with its first bit lowest.
  private(set) var patterns: [UInt16]

  /// Makes the code of least total length for counts.
  ///
  /// - Parameters:
  ///   - counts: How often each symbol occurs; at least two must occur.
  ///   - limit: The most bits of a code.
  init(counts: [UInt32], limit: Int) {
    lengths = Self.lengths(counts, limit: limit)
    patterns = Self.patterns(lengths)
  }

  /// Bits that the counted symbols take.
  func cost(_ counts: [UInt32]) -> Int {
    var sum = 0
    for symbol in counts.indices { sum += Int(counts[symbol]) * Int(lengths[symbol]) }
    return sum
  }

  private static func lengths(_ counts: [UInt32], limit: Int) -> [UInt8] {
    let symbols = counts.indices.filter { counts[$0] > 0 }
      .sorted { (counts[$0], $0) < (counts[$1], $1) }
    let leaves = symbols.count
    precondition(leaves >= 2, "a prefix code needs two symbols")
    // Two queues: leaves by weight, and the nodes made of them, which come out by weight too.
    var weights = symbols.map { UInt64(counts[$0]) }
    var parents = [Int](repeating: 0, count: 2 * leaves - 1)
    var (leaf, node) = (0, leaves)
    for made in leaves..<(2 * leaves - 1) {
      var sum: UInt64 = 0
      for _ in 0..<2 {
        let takesLeaf = leaf < leaves && (node >= made || weights[leaf] <= weights[node])
        let taken = takesLeaf ? leaf : node
        if takesLeaf { leaf += 1 } else { node += 1 }
        parents[taken] = made
        sum += weights[taken]
      }
      weights.append(sum)
    }
    var depths = [Int](repeating: 0, count: 2 * leaves - 1)
    for index in stride(from: 2 * leaves - 3, through: 0, by: -1) {
      depths[index] = depths[parents[index]] + 1
    }
    let limited = Self.limited(Array(depths[..<leaves]), to: limit)
    var lengths = [UInt8](repeating: 0, count: counts.count)
    for (symbol, depth) in zip(symbols, limited) { lengths[symbol] = UInt8(depth) }
    return lengths
  }

  /// Depths of leaves, rarest first, cut to a limit with Kraft's sum kept at 1.
  private static func limited(_ depths: [Int], to limit: Int) -> [Int] {
    guard depths.contains(where: { $0 > limit }) else { return depths }
    var depths = depths.map { min($0, limit) }
    var kraft = depths.reduce(0) { $0 + 1 << (limit - $1) }
    // Lengthen the rarest code that is not at the limit yet.
    while kraft > 1 << limit {
      guard let index = depths.firstIndex(where: { $0 < limit }) else { break }
      depths[index] += 1
      kraft -= 1 << (limit - depths[index])
    }
    // What that overshoots goes back to the commonest codes.
    for index in depths.indices.reversed() {
      while depths[index] > 1, kraft + 1 << (limit - depths[index]) <= 1 << limit {
        kraft += 1 << (limit - depths[index])
        depths[index] -= 1
      }
    }
    return depths
  }

  /// The canonical patterns of code lengths, first bit lowest.
  static func patterns(_ lengths: [UInt8]) -> [UInt16] {
    var starts = [UInt16](repeating: 0, count: 17)
    var perLength = [UInt16](repeating: 0, count: 17)
    for length in lengths where length > 0 { perLength[Int(length)] += 1 }
    var code: UInt16 = 0
    for bits in 1...15 {
      code = (code &+ perLength[bits - 1]) << 1
      starts[bits] = code
    }
    var patterns = [UInt16](repeating: 0, count: lengths.count)
    for (symbol, length) in lengths.enumerated() where length > 0 {
      var reversed: UInt16 = 0
      for bit in 0..<Int(length) {
        reversed |= ((starts[Int(length)] >> bit) & 1) << (Int(length) - 1 - bit)
      }
      patterns[symbol] = reversed
      starts[Int(length)] &+= 1
    }
    return patterns
  }
}
