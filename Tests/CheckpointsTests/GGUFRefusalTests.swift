import Tensors
import Testing

@testable import Checkpoints

/// Every rule of the GGUF reader, with the bytes written out.
@Suite struct GGUFRefusalTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var id: String
    var kind: SurgeryError.Kind
    var what: String
    var file: [UInt8]
    var testDescription: String { "\(id), \(what)" }

    init(
      _ id: String, _ what: String, _ kind: SurgeryError.Kind = .data,
      _ change: (inout GGUFBuilder) -> Void
    ) {
      self.id = id
      self.what = what
      self.kind = kind
      file = GGUFBuilder.with(change)
    }
  }

  private static func key(
    _ id: String, _ what: String, type: UInt32, _ value: [UInt8], name: String = "k"
  ) -> Case {
    Case(id, what) { $0.keys = [GGUFBuilder.key(name, type: type, value)] }
  }

  private static func array(_ id: String, _ what: String, _ value: [UInt8]) -> Case {
    key(id, what, type: 9, value)
  }

  static let heads: [Case] = [
    Case("gguf.magic", "wrong magic") { $0.head = Array("FUGG".utf8) + bytes(UInt32(3)) },
    Case("gguf.version", "version 0", .unsupported) { $0.head[4] = 0 },
    Case("gguf.version", "version 1", .unsupported) { $0.head[4] = 1 },
    Case("gguf.version", "version 4", .unsupported) { $0.head[4] = 4 },
    Case("gguf.big-endian", "version 3 swapped", .unsupported) {
      $0.head = Array("GGUF".utf8) + [0, 0, 0, 3]
    },
    Case("gguf.tensor-count", "a billion tensors") { $0.tensorCount = 1_000_000_000 },
    Case("gguf.tensor-count", "2^64-1 tensors") { $0.tensorCount = .max },
    Case("gguf.key-count", "2^63 keys") { $0.keyCount = 1 << 63 },
    Case("gguf.key-count", "2^64-1 keys") { $0.keyCount = .max },
  ]

  static let keys: [Case] = [
    key("gguf.key", "empty key", type: 0, [1], name: ""),
    key("gguf.key", "NUL in a key", type: 0, [1], name: "a\0b"),
    key("gguf.key", "64 KiB key", type: 0, [1], name: String(repeating: "k", count: 65536)),
    Case("gguf.utf8", "key is no UTF-8") {
      $0.keys = [bytes(UInt64(1)) + [0xFF] + bytes(UInt32(0)) + [1]]
    },
    Case("gguf.string-length", "key length 2^63") { $0.keys = [bytes(UInt64(1) << 63)] },
    Case("gguf.string-length", "key length 2^64-1") { $0.keys = [bytes(UInt64.max)] },
    Case("gguf.duplicate", "the same key twice") {
      $0.keys = [GGUFBuilder.key("k", type: 0, [1]), GGUFBuilder.key("k", type: 0, [1])]
    },
    Case("gguf.duplicate", "canonically equal keys") {
      $0.keys = [
        GGUFBuilder.key("\u{E9}", type: 0, [1]), GGUFBuilder.key("e\u{301}", type: 0, [1]),
      ]
    },
    key("gguf.value-type", "type 13", type: 13, [0]),
    key("gguf.value-type", "type 2^32-1", type: .max, [0]),
    key("gguf.string-length", "string length 2^62", type: 8, bytes(UInt64(1) << 62)),
    key("gguf.utf8", "string is no UTF-8", type: 8, bytes(UInt64(2)) + [0xC0, 0x80]),
    key("gguf.bool", "boolean 2", type: 7, [2]),
    array("gguf.array-length", "2^61 numbers", bytes(UInt32(10)) + bytes(UInt64(1) << 61)),
    array("gguf.array-length", "2^64-1 bytes", bytes(UInt32(0)) + bytes(UInt64.max)),
    array(
      "gguf.array-length", "a billion strings", bytes(UInt32(8)) + bytes(UInt64(1_000_000_000))),
    array("gguf.array-length", "a billion arrays", bytes(UInt32(9)) + bytes(UInt64(1_000_000_000))),
    array("gguf.value-type", "array of type 13", bytes(UInt32(13)) + bytes(UInt64(0))),
    array("gguf.bool", "boolean 3 in an array", bytes(UInt32(7)) + bytes(UInt64(1)) + [3]),
    array(
      "gguf.depth", "nested 100,000 deep",
      (0..<100_000).flatMap { _ in bytes(UInt32(9)) + bytes(UInt64(1)) }),
  ]

  private static func alignment(_ type: UInt32, _ value: [UInt8]) -> Case {
    key("gguf.alignment", "alignment \(value)", type: type, value, name: "general.alignment")
  }

  static let alignments: [Case] = [
    alignment(4, bytes(UInt32(0))), alignment(4, bytes(UInt32(3))),
    alignment(10, bytes(UInt64(32))),
    alignment(8, GGUFBuilder.text("32")),
    key(
      "gguf.truncated", "alignment 2^31", type: 4, bytes(UInt32(1) << 31), name: "general.alignment"
    ),
  ]

  private static func tensor(
    _ id: String, _ what: String, _ kind: SurgeryError.Kind = .data, _ tensors: [UInt8]...
  ) -> Case {
    Case(id, what, kind) { $0.tensors = tensors }
  }

  private static let make = GGUFBuilder.tensor(_:_:type:offset:rank:)

  static let tensors: [Case] = [
    tensor(
      "gguf.string-length", "name length 2^64-1", .data,
      bytes(UInt64.max) + [UInt8](repeating: 0, count: 24)),
    tensor(
      "gguf.name", "64 bytes of name", .data,
      make(String(repeating: "n", count: 64), [2], 0, 0, nil)),
    tensor("gguf.name", "NUL in a name", .data, make("a\0", [2], 0, 0, nil)),
    tensor(
      "gguf.duplicate", "a twice", .data, make("a", [0], 0, 0, nil), make("a", [2], 0, 0, nil)),
    tensor("gguf.dimensions", "5 dimensions", .data, make("a", [1, 1, 1, 1, 2], 0, 0, nil)),
    tensor("gguf.dimensions", "2^32-1 dimensions", .data, make("a", [2], 0, 0, .max)),
    tensor("gguf.dimensions", "dimension -2", .data, make("a", [.max - 1], 0, 0, nil)),
    tensor("gguf.dimensions", "dimension 2^63", .data, make("a", [1 << 63], 0, 0, nil)),
    tensor("gguf.overflow", "2^32 x 2^32", .data, make("a", [1 << 32, 1 << 32], 0, 0, nil)),
    tensor("gguf.overflow", "0 x 2^32 x 2^32", .data, make("a", [0, 1 << 32, 1 << 32], 0, 0, nil)),
    tensor("gguf.overflow", "2^62 floats", .data, make("a", [1 << 62], 0, 0, nil)),
    tensor(
      "gguf.truncated", "two of 2^59", .data, make("a", [1 << 59], 24, 0, nil),
      make("b", [1 << 59], 24, 1 << 59, nil)),
    tensor("gguf.type", "removed type 31", .unsupported, make("a", [2], 31, 0, nil)),
    tensor("gguf.type", "unknown type 99", .unsupported, make("a", [2], 99, 0, nil)),
    tensor("gguf.type", "type 2^32-1", .data, make("a", [2], .max, 0, nil)),
    tensor("gguf.block", "Q8_0 with rows of 4", .data, make("a", [4, 32], 8, 0, nil)),
    tensor("gguf.block", "Q4_K scalar", .data, make("a", [], 12, 0, nil)),
    tensor("gguf.offset", "offset 16", .data, make("a", [2], 0, 16, nil)),
    tensor("gguf.offset", "offset 2^64-32", .data, make("a", [2], 0, .max - 31, nil)),
    tensor("gguf.offset", "overlap", .data, make("a", [1], 0, 0, nil), make("b", [1], 0, 0, nil)),
    tensor(
      "gguf.offset", "out of order", .data, make("a", [1], 0, 32, nil), make("b", [1], 0, 0, nil)),
    tensor(
      "gguf.truncated", "no data for the second", .data, make("a", [2], 0, 0, nil),
      make("b", [1], 0, 32, nil)),
    Case("gguf.truncated", "a byte is missing") { $0.data.removeLast() },
    Case("gguf.trailing", "a byte too many") { $0.data += [UInt8](repeating: 0, count: 25) },
    Case("gguf.truncated", "the header ends in a dimension") {
      $0.tensors = [Array(GGUFBuilder.tensor("a name of twenty byte", [2]).prefix(42))]
      $0.alignment = 1
      $0.data = []
    },
  ]

  @Test(arguments: heads + keys + alignments + tensors)
  func refuses(_ bad: Case) throws {
    let error = try failure { _ = try open(bad.file, as: "x.gguf") }
    #expect(error.id == bad.id, "\(error)")
    #expect(error.kind == bad.kind)
    #expect(error.file?.hasSuffix("x.gguf") == true)
    #expect(error.description.utf8.count < 4000)
  }

  @Test func everyCutIsRefused() throws {
    for name in ["all_types", "quantised", "adapter"] {
      let whole = try Fixtures.bytes("gguf/\(name).gguf")
      let dataEnd = try #require(
        try open(whole, as: "x.gguf").tensors.last.map {
          Int($0.undecoded.source.plainOffset ?? 0) + $0.undecoded.info.byteCount
        })
      for length in stride(from: 0, to: dataEnd, by: 1) {
        let error = try failure { _ = try open(Array(whole[..<length]), as: "x.gguf") }
        #expect(error.kind == .data, "\(name) cut at \(length): \(error)")
      }
    }
  }
}
