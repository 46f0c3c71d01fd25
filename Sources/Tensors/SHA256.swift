import CTensorKernels

/// SHA-256 (FIPS 180-4) of bytes that come in pieces.
public struct SHA256: Sendable {
  private static let blockSize = 64

  private var state: [UInt32] = [
    0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB,
    0x5BE0_CD19,
  ]
  /// Bytes that wait for a block to be full.
  private var waiting: [UInt8] = []
  private var count: UInt64 = 0
  /// Whether the processor's own instructions may be used.
  private let usesInstructions: Bool

  /// Begins with no bytes.
  public init() { usesInstructions = true }

  /// Begins with no bytes, and does without the processor's instructions if asked to.
  init(usesInstructions: Bool) { self.usesInstructions = usesInstructions }

  /// Adds bytes.
  ///
  /// - Parameter bytes: What follows on the bytes before.
  /// - Complexity: O(*n*); above a gigabyte a second where the processor has instructions for it.
  public mutating func update(_ bytes: RawSpan) {
    count += UInt64(bytes.byteCount)
    var rest = 0
    if !waiting.isEmpty {
      rest = min(Self.blockSize - waiting.count, bytes.byteCount)
      append(bytes, 0..<rest)
      guard waiting.count == Self.blockSize else { return }
      let block = waiting
      unsafe add(block.span.bytes, blocks: 1)
      waiting.removeAll(keepingCapacity: true)
    }
    let blocks = (bytes.byteCount - rest) / Self.blockSize
    let whole = rest + blocks * Self.blockSize
    add(bytes.extracting(rest..<whole), blocks: blocks)
    append(bytes, whole..<bytes.byteCount)
  }

  /// The digest of all bytes so far, in hexadecimal digits.
  public var hexadecimal: String {
    var last = self
    let bits = count &* 8
    var padding: [UInt8] = [0x80]
    let used = (waiting.count + 1 + 8) % Self.blockSize
    padding += [UInt8](repeating: 0, count: (Self.blockSize - used) % Self.blockSize)
    padding += (0..<8).reversed().map { UInt8(truncatingIfNeeded: bits >> (8 * UInt64($0))) }
    unsafe last.update(padding.span.bytes)
    let digits = Array("0123456789abcdef")
    return last.state.reduce(into: "") { text, word in
      for shift in stride(from: 28, through: 0, by: -4) {
        text.append(digits[Int(word >> UInt32(shift) & 15)])
      }
    }
  }

  private mutating func append(_ bytes: RawSpan, _ range: Range<Int>) {
    unsafe bytes.extracting(range).withUnsafeBytes { unsafe waiting.append(contentsOf: $0) }
  }

  private mutating func add(_ bytes: RawSpan, blocks: Int) {
    guard blocks > 0 else { return }
    let usesInstructions = usesInstructions
    unsafe bytes.withUnsafeBytes { buffer in
      guard let data = unsafe buffer.baseAddress?.assumingMemoryBound(to: UInt8.self) else {
        return
      }
      if usesInstructions {
        unsafe lora_sha256(&state, data, blocks)
      } else {
        unsafe lora_sha256_plain(&state, data, blocks)
      }
    }
  }
}
