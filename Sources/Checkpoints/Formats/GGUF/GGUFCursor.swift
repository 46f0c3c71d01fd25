import Tensors

/// Reads a GGUF file's header from front to back, checking every length against the rest of the file.
struct GGUFCursor {
  /// Ten times the header of the largest vocabularies; bounds what a reader must hold in memory.
  static let maximumHeaderLength: UInt64 = 256 << 20
  private static let bufferSize: UInt64 = 64 << 10

  let file: InputFile
  private(set) var position: UInt64 = 0
  private let limit: UInt64
  private var buffer: [UInt8] = []
  private var bufferStart: UInt64 = 0

  init(_ file: InputFile) {
    self.file = file
    limit = min(file.size, Self.maximumHeaderLength)
  }

  /// Bytes that may still be read.
  var rest: UInt64 { limit - position }

  /// The failure of something that would end beyond the file, or beyond what a header may take.
  func beyondEnd(_ what: String, _ id: String, needed: String) -> SurgeryError {
    if limit < file.size {
      return SurgeryError(
        .data, "gguf.header-too-large",
        "\(what) makes the header longer than \(Self.maximumHeaderLength) bytes", offset: position)
    }
    return SurgeryError(
      .data, id, "\(what) exceeds the rest of the file, which is malformed or truncated",
      expected: "at most \(rest, counting: "byte")", found: needed, offset: position)
  }

  /// Consumes `count` bytes, which `rest` covers, and lends them to `body`.
  private mutating func take<Result>(
    _ count: Int, _ body: (ArraySlice<UInt8>) -> Result
  ) throws(SurgeryError) -> Result {
    let end = position + UInt64(count)
    if position < bufferStart || end > bufferStart + UInt64(buffer.count) {
      buffer = try file.bytes(
        at: position, count: Int(max(UInt64(count), min(Self.bufferSize, rest))))
      bufferStart = position
    }
    let start = Int(position - bufferStart)
    position = end
    return body(buffer[start..<start + count])
  }

  /// Reads a little-endian integer.
  mutating func integer<Value: FixedWidthInteger>(
    _: Value.Type, _ what: @autoclosure () -> String
  ) throws(SurgeryError) -> Value {
    let size = MemoryLayout<Value>.size
    guard rest >= UInt64(size) else {
      throw beyondEnd(what(), "gguf.truncated", needed: "\(size, counting: "byte")")
    }
    return try take(size) { $0.reversed().reduce(0) { $0 << 8 | Value(truncatingIfNeeded: $1) } }
  }

  /// Reads `count` little-endian integers whose bytes are known to be there.
  mutating func integers<Value: FixedWidthInteger>(
    _: Value.Type, count: Int
  ) throws(SurgeryError) -> [Value] {
    let size = MemoryLayout<Value>.size
    let atOnce = Int(Self.bufferSize) / size
    var values: [Value] = []
    while values.count < count {
      let part = min(atOnce, count - values.count)
      try take(part * size) { bytes in
        var index = bytes.startIndex
        for _ in 0..<part {
          var value: Value = 0
          for shift in 0..<size {
            value |= Value(truncatingIfNeeded: bytes[index + shift]) << (8 * shift)
          }
          values.append(value)
          index += size
        }
      }
    }
    return values
  }

  /// Reads a string with its length.
  mutating func string(_ what: String) throws(SurgeryError) -> String {
    let start = position
    let length = try integer(UInt64.self, "the length of \(what)")
    guard length <= rest else {
      position = start
      throw beyondEnd(what, "gguf.string-length", needed: "\(length, counting: "byte")")
    }
    let text = try take(Int(length)) { String(validating: $0, as: UTF8.self) }
    guard let text else {
      throw SurgeryError(.data, "gguf.utf8", "\(what) is not valid UTF-8", offset: start + 8)
    }
    return text
  }
}
