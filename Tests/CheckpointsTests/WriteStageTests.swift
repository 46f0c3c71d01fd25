import SystemPackage
import Tensors
import Testing

@testable import Checkpoints

/// Whatever the parts in which a large file is written, its bytes are those written.
@Suite struct WriteStageTests {
  /// A file of `size` bytes, written past the page cache where the file system can.
  private func file(_ folder: TemporaryFolder, size: Int) throws -> OutputFile {
    try OutputFile(
      temporary: FilePath(folder.path("out")), path: "out", size: UInt64(size), directSize: 0)
  }

  @Test(arguments: 0..<12 as Range<UInt64>) func writesPartsOfAnyLength(seed: UInt64) throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(state: seed)
    let expected = (0..<Int.random(in: 1...200_000, using: &random)).map { _ in
      UInt8.random(in: 0...255, using: &random)
    }
    let out = try file(folder, size: expected.count)
    var parts: [Range<Int>] = []
    var position = 0
    while position < expected.count {
      let count = min(expected.count - position, Int.random(in: 1...30_000, using: &random))
      parts.append(position..<position + count)
      position += count
    }
    // Two stages share the file as two workers do, one of them out of order.
    let (first, second) = (WriteStage(capacity: 4096), WriteStage(capacity: 3 * 4096))
    let middle = parts.count / 2
    for part in parts[..<middle] {
      try first.write(expected.span.bytes.extracting(part), to: out, at: UInt64(part.lowerBound))
    }
    try first.flush()
    for part in parts[middle...].shuffled(using: &random) {
      try second.write(expected.span.bytes.extracting(part), to: out, at: UInt64(part.lowerBound))
    }
    try second.flush()
    try out.flush(mode: 0o600)
    #expect(try folder.bytes("out") == expected)
  }

  /// Bytes made in place, and taken from elsewhere, by turns.
  @Test(arguments: 0..<12 as Range<UInt64>) func makesPartsInPlace(seed: UInt64) throws {
    let folder = try TemporaryFolder()
    var random = SeededGenerator(state: seed)
    let expected = (0..<Int.random(in: 1...200_000, using: &random)).map { _ in
      UInt8.random(in: 0...255, using: &random)
    }
    let out = try file(folder, size: expected.count)
    let stage = WriteStage(capacity: 4 * 4096)
    // The bytes before are another worker's.
    var position = min(expected.count, Int.random(in: 0...9000, using: &random))
    try stage.write(expected.span.bytes.extracting(0..<position), to: out, at: 0)
    try stage.flush()
    while position < expected.count {
      let count = min(expected.count - position, Int.random(in: 1...20_000, using: &random))
      if Bool.random(using: &random) {
        try stage.fill(count, of: out, at: UInt64(position)) { room in
          for index in 0..<count {
            room.storeBytes(of: expected[position + index], toByteOffset: index, as: UInt8.self)
          }
        }
      } else {
        try stage.write(
          expected.span.bytes.extracting(position..<position + count), to: out,
          at: UInt64(position))
      }
      position += count
    }
    try stage.flush()
    try out.flush(mode: 0o600)
    #expect(try folder.bytes("out") == expected)
  }

  @Test func writesAllWhileItWaits() throws {
    let folder = try TemporaryFolder()
    let out = try file(folder, size: 10_000)
    let bytes = [UInt8](repeating: 7, count: 10_000)
    var waits = 0
    try withExtendedLifetime(out) {
      let stage = WriteStage(capacity: 4096) { body throws(SurgeryError) in
        waits += 1
        try body()
      }
      try stage.write(bytes.span.bytes, to: out, at: 0)
      try stage.flush()
      try stage.flush()
    }
    try out.flush(mode: 0o600)
    #expect(waits == (out.isDirect ? 3 : 0))
    #expect(try folder.bytes("out") == bytes)
  }

  @Test func writesSmallFilesAtOnce() throws {
    let folder = try TemporaryFolder()
    let out = try OutputFile(
      temporary: FilePath(folder.path("out")), path: "out", size: 4096)
    #expect(!out.isDirect)
  }
}
