import Tensors

/// The bytes of one or several pickles, read as they are needed.
struct PickleInput {
  /// A checkpoint of 400,000 tensors takes about as much; what a pickle describes may take a few times its size in memory.
  static let maximumSize = 64 << 20
  private static let bufferSize = 1 << 16

  /// Where bytes beyond the buffer come from, and where in it the pickle begins.
  private let source: (file: InputFile, offset: UInt64)?
  private var buffer: [UInt8]
  private var index = 0
  /// Position of the buffer's first byte.
  private var start = 0
  /// Bytes that there are.
  private let size: Int

  /// The bytes of a pickle that is already read.
  init(_ bytes: [UInt8]) {
    source = nil
    buffer = bytes
    size = bytes.count
  }

  /// Pickles that lie in a file from `offset` on.
  init(_ file: InputFile, at offset: UInt64) {
    source = (file, offset)
    buffer = []
    size = Int(min(file.size - offset, UInt64(Self.maximumSize)))
  }

  /// Position of the next byte.
  var position: Int { start + index }

  /// Bytes that follow.
  var rest: Int { size - position }

  mutating func byte() throws(SurgeryError) -> UInt8 {
    if index == buffer.count { try refill(1) }
    index += 1
    return buffer[index - 1]
  }

  mutating func take(_ count: Int) throws(SurgeryError) -> ArraySlice<UInt8> {
    if count > buffer.count - index { try refill(count) }
    index += count
    return buffer[index - count..<index]
  }

  /// An unsigned little-endian integer.
  mutating func integer(_ count: Int) throws(SurgeryError) -> UInt64 {
    try take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// The bytes up to the next line break, which is passed.
  mutating func line(limit: Int) throws(SurgeryError) -> [UInt8] {
    var line: [UInt8] = []
    while true {
      let next = try byte()
      if next == UInt8(ascii: "\n") { return line }
      line.append(next)
      guard line.count <= limit else {
        throw SurgeryError(
          .data, "pickle.name", "a name in the pickle is longer than \(limit) bytes")
      }
    }
  }

  private mutating func refill(_ count: Int) throws(SurgeryError) {
    guard let source, count <= rest else {
      throw SurgeryError(
        .data, "pickle.truncated", "the pickle ends early", expected: "\(count) more bytes",
        found: "\(rest, counting: "byte")")
    }
    let wanted = min(max(count, Self.bufferSize), rest)
    buffer = try source.file.bytes(at: source.offset + UInt64(position), count: wanted)
    start = position
    index = 0
  }
}
