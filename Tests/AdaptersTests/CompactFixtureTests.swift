import Adapters
import Checkpoints
import Foundation
import Tensors
import Testing

/// The files of the specification's examples, and the reader in Python that was made from the specification alone.
struct CompactFixtureTests {
  private static let root = URL(fileURLWithPath: Fixtures.root).deletingLastPathComponent().path

  @Test("The examples of the specification are read as it says")
  func examples() throws {
    let exact = try Adapter(opening: "\(Self.root)/compact/example.lra")
    #expect(exact.modules.map(\.name) == ["q"])
    let module = try #require(exact.modules.first)
    #expect(try CompactWorkshop.delta(module).elements.prefix(4) == [3, -1.5, 0.75, 6])
    let lossy = try Adapter(opening: "\(Self.root)/compact/example-lossy.lra")
    #expect(lossy.provenance.compact?.maximumError == 0.05)
    let squares = CompactWorkshop.squares(
      try CompactWorkshop.delta(try #require(lossy.modules.first)),
      try CompactWorkshop.delta(module))
    #expect(squares.error <= 0.05 * 0.05 * squares.norm)
  }

  @Test("The pages of the example are written as the specification shows them")
  func pages() throws {
    let workshop = try CompactWorkshop()
    let adapter = try Adapter(opening: "\(Self.root)/compact/example")
    for (name, error) in [("example", nil), ("example-lossy", 0.05)] as [(String, Double?)] {
      let path = try workshop.write(adapter) { $0.maximumError = error }
      // The deflated header may differ between versions of zlib.
      #expect(
        try Self.bytes(path)[64..<96] == Self.bytes("\(Self.root)/compact/\(name).lra")[64..<96])
    }
  }

  @Test("The bytes that the specification prints are those of the examples")
  func printed() throws {
    let page = String(
      decoding: try Self.bytes("\(Self.root)/../man/lora-surgery-format.5"), as: UTF8.self)
    var files = ["example", "example-lossy"].makeIterator()
    var (file, last, count) = (Data(), Int.max, 0)
    for line in page.split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count == 17, line.dropFirst(2).hasPrefix("  "),
        let offset = Int(words[0], radix: 16)
      else { continue }
      // Offsets that go back begin the next file.
      if offset <= last {
        let name = files.next() ?? "missing"
        file = try Self.bytes("\(Self.root)/compact/\(name).lra")
      }
      last = offset
      count += 1
      #expect(
        words.dropFirst().map { UInt8($0, radix: 16) } == file[offset..<(offset + 16)].map(\.self))
    }
    #expect(count == 8)
  }

  private static func bytes(_ path: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: path))
  }

  @Test("The Python reader sees the same tensors", .enabled(if: Self.hasPython))
  func python() throws {
    let workshop = try CompactWorkshop()
    var generator = SeededGenerator(seed: 41)
    let down = try workshop.gaussian("d", [4, 900], .bf16, &generator)
    let up = try workshop.gaussian("u", [700, 4], .bf16, &generator)
    let noise = try workshop.noise("n", [600, 500], .f16, &generator)
    // Tokens differ by octaves, and some are never met.
    let tokens = try workshop.gaussian(
      "t", [2300, 4], .f32, rowFactors: (0..<2300).map { $0 % 5 == 0 ? 0 : Double(1 << ($0 % 7)) },
      &generator)
    let adapter = workshop.adapter([
      ("m", try LowRank(up: Factor(up), down: Factor(down)), 1.5),
      ("n", try DiagonalScale(Factor(noise), axis: .outputs, isOffset: true), 1),
      ("e", try LowRank(up: Factor(tokens), down: Factor(down)), 1),
    ])
    for error in [nil, 0.003, 0.1] as [Double?] {
      let path = try workshop.write(adapter) { $0.maximumError = error }
      let script = """
        import sys; sys.path.insert(0, sys.argv[1])
        from read_lra import Lra
        import zlib
        file = Lra(sys.argv[2])
        print(*[zlib.crc32(file.tensor(i).tobytes()) for i in range(len(file.header["tensors"]))])
        """
      let found = try Self.run(["-c", script, Self.root, path])
      let wanted = try TensorFile(opening: path).tensors.map { String(try $0.bytes().crc32) }
      #expect(found?.split(whereSeparator: \.isWhitespace).map(String.init) == wanted)
    }
  }

  private static let hasPython = ((try? run(["-c", "import numpy; print(1)"])) ?? nil) == "1\n"

  /// The standard output of python3, or `nil` where it fails.
  private static func run(_ arguments: [String]) throws -> String? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", "-B"] + arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return process.terminationStatus == 0 ? String(decoding: data, as: UTF8.self) : nil
  }
}
