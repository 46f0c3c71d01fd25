import Tensors

/// Rounding to Q8_0.
public enum Q8Blocks {
  /// Rounds numbers to blocks of 32 signed bytes with a float16 scale, the largest magnitude over 127.
  ///
  /// As `quantize_row_q8_0_ref` of ggml does it (ggml:src/ggml-quants.c), which `gguf-py` follows bit for bit.
  ///
  /// - Parameter values: Whole blocks; numbers that single precision holds.
  /// - Returns: 34 bytes for every 32 numbers.
  /// - Complexity: O(`values.count`).
  public static func encoded(_ values: [Double]) -> [UInt8] {
    let type = BlockQuantisation.q8_0
    var bytes: [UInt8] = []
    bytes.reserveCapacity(values.count / type.elementsPerBlock * type.bytesPerBlock)
    for start in stride(from: 0, to: values.count, by: type.elementsPerBlock) {
      let block = values[start..<min(start + type.elementsPerBlock, values.count)].map { Float($0) }
      let scale = (block.map(\.magnitude).max() ?? 0) / 127
      let inverse = scale == 0 ? 0 : 1 / scale
      let bits = FloatPatterns.narrowToF16(scale)
      bytes.append(UInt8(truncatingIfNeeded: bits))
      bytes.append(UInt8(truncatingIfNeeded: bits >> 8))
      for value in block {
        let quantum = (value * inverse).rounded(.toNearestOrAwayFromZero)
        bytes.append(UInt8(bitPattern: Int8(clamping: Int(quantum.isFinite ? quantum : 0))))
      }
    }
    return bytes
  }
}
