import SystemPackage
import Tensors
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

@testable import Checkpoints

/// Valid files, damaged: reading one ends in a clean error or a valid result.
@Suite struct MutationTests {
  /// A valid file to damage.
  ///
  /// A new format is tested by appending its files to `seeds`.
  struct Seed: Sendable, CustomTestStringConvertible {
    /// Its path in `fixtures/`.
    var fixture: String
    /// Bytes from the start that are overwritten in turn: those of a header, or so many that the rest is alike; `nil` for the
    /// whole file.
    var header: Int?
    /// Bytes that may be missing at the end of a file that is still valid (padding).
    var dispensableTail = 0

    var testDescription: String { fixture }
  }

  static let seeds = [
    Seed(fixture: "safetensors/all_dtypes.safetensors", header: 200),
    Seed(fixture: "safetensors/shapes.safetensors", header: 328),
    Seed(fixture: "safetensors/names.safetensors"),
    Seed(fixture: "index/model.safetensors.index.json", dispensableTail: 1),
    Seed(fixture: "gguf/all_types.gguf", header: 800, dispensableTail: 16),
    Seed(fixture: "gguf/quantised.gguf", header: 150, dispensableTail: 31),
    Seed(fixture: "gguf/adapter.gguf", dispensableTail: 31),
    Seed(fixture: "numpy/version1.npy"),
    Seed(fixture: "numpy/version3.npy"),
    Seed(fixture: "numpy/small.npz"),
    Seed(fixture: "numpy/small_deflated.npz"),
    Seed(fixture: "torch/alone.pt"),
    Seed(fixture: "torch/views.pt", header: 0),
    Seed(fixture: "torch/dtypes_legacy.pt", header: 0),
    Seed(fixture: "torch/views_legacy.pt", header: 500),
    Seed(fixture: "compact/example.lra"),
    Seed(fixture: "compact/example-lossy.lra"),
  ]

  static let mutantsPerSeed = 1600
  /// What the archives among them may expand to.
  static let limits = ReadLimits(inflatedBytes: 1 << 20)

  /// A place where mutants are opened: a lone file, or an index among its shards.
  private final class Place {
    let folder: TemporaryFolder
    let path: String
    let isIndex: Bool
    let file: FileDescriptor

    init(_ seed: Seed) throws {
      folder = try TemporaryFolder()
      let name = seed.fixture.split(separator: "/").last.map(String.init) ?? ""
      isIndex = name.hasSuffix(".index.json")
      if isIndex {
        for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
          try folder.write(shard, Fixtures.bytes("index/" + shard))
        }
      }
      path = folder.path(name)
      file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
    }

    deinit { try? file.close() }

    /// Reads everything there is; returns whether that worked, and fails the test where it went wrong otherwise.
    func reads(_ bytes: [UInt8], _ what: @autoclosure () -> String) throws -> Bool {
      // In place: a new file for every mutant takes most of the time.
      try file.resize(to: 0)
      _ = try file.writeAll(toAbsoluteOffset: 0, bytes)
      let start = Self.processorSeconds
      defer {
        let seconds = Self.processorSeconds - start
        if seconds > 1 { Issue.record("\(what()): took \(seconds) s") }
      }
      do throws(SurgeryError) {
        let opened = try Checkpoint(
          opening: isIndex ? folder.path : path, limits: MutationTests.limits)
        for tensor in opened.tensors {
          let limit = Self.limit(opened.files.first?.file.format, size: bytes.count)
          guard tensor.info.byteCount <= limit else {
            Issue.record("\(what()): tensor \(tensor.name) has \(tensor.info.byteCount) bytes")
            return true
          }
          try Self.readEnds(of: tensor)
        }
        return true
      } catch {
        if error.kind != .data && error.kind != .unsupported && error.kind != .missingInput {
          Issue.record("\(what()): \(error)")
        }
        if error.description.utf8.count > 4096 { Issue.record("\(what()): a long error") }
        return false
      }
    }

    /// The most bytes of a tensor that a file of this size justifies.
    private static func limit(_ format: FileFormat?, size: Int) -> Int {
      switch format {
      case .npz: MutationTests.limits.inflatedBytes.map { Int($0) } ?? 0
      // Views may repeat elements: what they expand to is limited, and never held in memory.
      case .torch: 1 << 30
      // Q8_0 delivers 128 bytes for 34, factors of a few bits at most 32 for one.
      case .compact: 32 * max(size, 1000)
      default: 4 * max(size, 1000)
      }
    }

    /// Reads a tensor, of a large one both ends.
    private static func readEnds(of tensor: StoredTensor) throws(SurgeryError) {
      var reader = try tensor.source.makeReader()
      let size = tensor.info.byteCount
      let count = min(size, 1 << 16)
      var scratch = [UInt8](repeating: 0, count: count)
      for offset in Set([0, size - count]).sorted() {
        try scratch.withMutableRawSpan(0..<count) { (target) throws(SurgeryError) in
          try reader.read(at: offset, into: &target)
        }
      }
    }

    /// Processor time of this thread, which other tests do not lengthen.
    private static var processorSeconds: Double {
      var time = timespec()
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
      return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
  }

  @Test(arguments: seeds)
  func survivesRandomDamage(seed: Seed) throws {
    let whole = try Fixtures.bytes(seed.fixture)
    let place = try Place(seed)
    #expect(try place.reads(whole, "unchanged"))
    let others = try Self.seeds.map { try Fixtures.bytes($0.fixture) }
    var refused = 0
    for number in 0..<Self.mutantsPerSeed {
      var random = SeededGenerator(state: UInt64(number))
      let mutant = Self.mutate(whole, others: others, using: &random)
      if try !place.reads(mutant, "\(seed.fixture), mutant \(number)") { refused += 1 }
    }
    #expect(refused > Self.mutantsPerSeed / 4 && refused < Self.mutantsPerSeed)
  }

  @Test(arguments: seeds)
  func survivesEveryCut(seed: Seed) throws {
    let whole = try Fixtures.bytes(seed.fixture)
    let place = try Place(seed)
    for length in 0..<whole.count
    where try place.reads(Array(whole[..<length]), "\(seed.fixture) cut at \(length)") {
      #expect(length >= whole.count - seed.dispensableTail, "cut at \(length)")
    }
  }

  @Test(arguments: seeds)
  func survivesEveryWrongHeaderByte(seed: Seed) throws {
    let whole = try Fixtures.bytes(seed.fixture)
    let place = try Place(seed)
    for position in 0..<min(seed.header ?? whole.count, whole.count) {
      for value in [0x00, 0xFF, whole[position] ^ 0x80] {
        var mutant = whole
        mutant[position] = value
        _ = try place.reads(mutant, "\(seed.fixture), byte \(position) is \(value)")
      }
    }
  }

  /// What fuzzing found, by files named after their target (Fuzz/run.sh).
  @Test func survivesWhatWasFound() throws {
    let names = try FileSystem.contents(of: FilePath(Fixtures.path("regressions")))
    #expect(!names.isEmpty)
    for name in names {
      let target = name.split(separator: "-").first.map(String.init) ?? ""
      // The targets npy and npz share a folder.
      let seed = Self.seeds.first {
        $0.fixture.hasPrefix(target + "/") || $0.fixture.hasSuffix("." + target)
      }
      let place = try Place(try #require(seed, "no seed for \(name)"))
      _ = try place.reads(try Fixtures.bytes("regressions/" + name), name)
    }
  }

  /// Damages a file in one to four places.
  private static func mutate(
    _ whole: [UInt8], others: [[UInt8]], using random: inout SeededGenerator
  ) -> [UInt8] {
    // Numbers at which arithmetic goes wrong.
    let limits: [UInt64] = [
      0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 61,
      1 << 62,
      1 << 63, .max - 31, .max - 7, .max - 1, .max,
    ]
    var bytes = whole
    for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
      let position = Int.random(in: 0..<bytes.count, using: &random)
      let end = min(bytes.count, position + Int.random(in: 1...16, using: &random))
      switch Int.random(in: 0..<9, using: &random) {
      case 0, 1: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2: bytes[position] = UInt8.random(in: 0...255, using: &random)
      case 3: bytes.removeSubrange(position...)
      case 4: bytes.removeSubrange(position..<end)
      case 5:
        let number = limits.randomElement(using: &random) ?? 0
        for shift in 0..<min(8, bytes.count - position) {
          bytes[position + shift] = UInt8(truncatingIfNeeded: number >> (8 * UInt64(shift)))
        }
      case 6: bytes.insert(contentsOf: bytes[position..<end], at: position)
      case 7:
        let digits = Array(String(limits.randomElement(using: &random) ?? 0).utf8)
        bytes.replaceSubrange(position..<min(bytes.count, position + 1), with: digits)
      default:
        let other = others.randomElement(using: &random) ?? whole
        let from = Int.random(in: 0..<other.count, using: &random)
        let length = Int.random(in: 1...64, using: &random)
        bytes.replaceSubrange(position..<end, with: other[from...].prefix(length))
      }
    }
    return bytes
  }
}
