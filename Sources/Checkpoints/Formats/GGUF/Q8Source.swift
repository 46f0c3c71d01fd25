import Tensors

/// A Q8_0 tensor delivered as F32.
///
/// A block is a float16 scale and 32 signed bytes; an element is their product in single precision, as
/// `dequantize_row_q8_0` of ggml computes it.
struct Q8Source: TensorSource {
  /// Where the blocks lie.
  let blocks: PlainSource

  var file: InputFile { blocks.file }
  var plainOffset: UInt64? { nil }
  var isSequential: Bool { false }
  var encoded: EncodedTensor? {
    EncodedTensor(dtype: .blockQuantised(.q8_0), source: blocks)
  }

  func makeReader() -> any TensorReader { Q8Reader(blocks: blocks) }
}

private struct Q8Reader: TensorReader {
  /// Stored and delivered bytes of one block.
  static let stored = 34
  static let delivered = 128
  static let blocksAtOnce = 1024

  let blocks: PlainSource
  private var scratch: [UInt8] = []

  init(blocks: PlainSource) { self.blocks = blocks }

  mutating func read(
    at offset: Int, into target: inout MutableRawSpan
  ) throws(SurgeryError) {
    let count = target.byteCount
    var done = 0
    while done < count {
      let position = offset + done
      let first = position / Self.delivered
      let last = (offset + count - 1) / Self.delivered
      let number = min(last - first + 1, Self.blocksAtOnce)
      try load(first: first, count: number)
      let end = min(offset + count, (first + number) * Self.delivered)
      let start = first * Self.delivered
      decode(position - start..<end - start, into: &target, at: done)
      done = end - offset
    }
  }

  private mutating func load(first: Int, count: Int) throws(SurgeryError) {
    let size = count * Self.stored
    if scratch.count < size { scratch = [UInt8](repeating: 0, count: size) }
    let start = blocks.offset + UInt64(first * Self.stored)
    let file = blocks.file
    try scratch.withMutableRawSpan(0..<size) { (span) throws(SurgeryError) in
      try file.read(at: start, into: &span)
    }
  }

  /// Writes the delivered bytes in `range`, counted from the first loaded block, to `target` from `position` on.
  private func decode(
    _ range: Range<Int>, into target: inout MutableRawSpan, at position: Int
  ) {
    var byte = range.lowerBound
    while byte < range.upperBound {
      let element = byte / 4
      let block = element / 32 * Self.stored
      let scale = FloatPatterns.widen(
        f16: UInt16(scratch[block]) | UInt16(scratch[block + 1]) << 8)
      let quantum = Int8(bitPattern: scratch[block + 2 + element % 32])
      let bits = (scale * Float(quantum)).bitPattern
      let at = position + byte - range.lowerBound
      if byte % 4 == 0, byte + 4 <= range.upperBound {
        target.storeBytes(of: bits.littleEndian, toByteOffset: at, as: UInt32.self)
        byte += 4
      } else {
        // Ranges need not begin or end with an element.
        target.storeBytes(
          of: UInt8(truncatingIfNeeded: bits >> (8 * (byte % 4))), toByteOffset: at, as: UInt8.self)
        byte += 1
      }
    }
  }
}
