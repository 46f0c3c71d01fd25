import Tensors
import Testing

@testable import Checkpoints

/// Files of the gguf library read bit for bit, and ours read back (fixtures/gguf/make.py).
@Suite struct GGUFTests {
  private static let types: [DType] = [.f32, .f16, .bf16, .f64, .i8, .i16, .i32, .i64]

  @Test func readsEveryTensorType() throws {
    let file = try TensorFile(opening: Fixtures.path("gguf/all_types.gguf"))
    #expect(file.format == .gguf && file.tensors.count == Self.types.count)
    for (n, dtype) in Self.types.enumerated() {
      let tensor = file.tensors[n]
      #expect(tensor.info == (try info("t.\(dtype.name)", dtype, [2, 3])))
      #expect(try tensor.bytes() == Fixtures.data(n, count: tensor.info.byteCount))
    }
  }

  @Test func readsEveryValueType() throws {
    let file = try TensorFile(opening: Fixtures.path("gguf/all_types.gguf"))
    let metadata = file.ggufMetadata
    let expected: [(String, GGUFValue, String)] = [
      ("general.architecture", .string("llama"), "llama"), ("t.u8", .u8(255), "255"),
      ("t.i8", .i8(-128), "-128"), ("t.u16", .u16(65535), "65535"),
      ("t.i16", .i16(-32768), "-32768"), ("t.u32", .u32(.max), "4294967295"),
      ("t.i32", .i32(.min), "-2147483648"), ("t.u64", .u64(.max), "18446744073709551615"),
      ("t.i64", .i64(.min), "-9223372036854775808"), ("t.f32", .f32(0.1), "0.1"),
      ("t.f64", .f64(0.1), "0.1"), ("t.true", .bool(true), "true"),
      ("t.false", .bool(false), "false"), ("t.string", .string("é 😀\n"), "é 😀\n"),
      ("t.ints", .array(.i32([1, -2, 3])), "[1,-2,3]"),
      ("t.floats", .array(.f32([0.5, -1.5])), "[0.5,-1.5]"),
      ("t.strings", .array(.string(["a", "", "\"q\""])), #"["a","","\"q\""]"#),
      ("t.bools", .array(.bool([true, false])), "[true,false]"),
    ]
    #expect(metadata.keys == expected.map(\.0))
    for (key, value, text) in expected {
      #expect(metadata[key] == value, "\(key)")
      #expect(file.metadata[key] == text, "\(key)")
    }
    #expect(metadata.number("t.i8") == -128 && metadata.number("t.u64") == 0x1p64)
    #expect(metadata.number("t.string") == nil && metadata.string("t.u8") == nil)
  }

  @Test func readsAnAdapter() throws {
    let file = try TensorFile(opening: Fixtures.path("gguf/adapter.gguf"))
    #expect(file.ggufMetadata.string("general.type") == "adapter")
    #expect(file.ggufMetadata.string("adapter.type") == "lora")
    #expect(file.ggufMetadata.number("adapter.lora.alpha") == 16)
    #expect(file.tensors.map(\.info.shape.dimensions) == [[2, 4], [3, 2]])
  }

  @Test func deliversQ8AsSinglePrecision() throws {
    let file = try TensorFile(opening: Fixtures.path("gguf/quantised.gguf"))
    let reference = try Fixtures.bytes("gguf/q8_0.f32")
    let tensor = file.tensors[0]
    #expect(tensor.info == (try info("q8", .f32, [3, 64])))
    #expect(tensor.storedDType.name == "Q8_0" && tensor.source.plainOffset == nil)
    #expect(try tensor.bytes() == reference)
    // From anywhere to anywhere.
    var random = SeededGenerator(state: 3)
    var reader = try tensor.source.makeReader()
    for _ in 0..<200 {
      let start = Int.random(in: 0...reference.count, using: &random)
      let end = Int.random(in: start...reference.count, using: &random)
      let part = try [UInt8](filling: end - start) { (target) throws(SurgeryError) in
        try reader.read(at: start, into: &target)
      }
      #expect(part == Array(reference[start..<end]))
    }
    let stored = tensor.undecoded
    #expect(stored.info.byteCount == 6 * 34 && stored.info.dtype == tensor.storedDType)
    #expect(try stored.bytes().count == 6 * 34)
  }

  /// The bytes are those of `gguf.quants.quantize` (gguf-py 0.19.0) for the same numbers in single precision.
  @Test func roundsToQ8AsItsOwnLibraryDoes() {
    var values = [Double](repeating: 0, count: 96)
    for index in 0..<32 {
      values[index] = Double(index * 7 % 33 - 16) * 0.1
      let step = Double(index + 1)
      values[64 + index] = (index % 2 == 0 ? 0.25 : -0.25) * step * 1e-3
    }
    let zeros = String(repeating: "00", count: 34)
    let expected =
      "732281b9f0285f91c800386fa1d810477fb1e8205789c0f8306799d0084077a9e018" + zeros
      + "210404f80cf014e81ce024d82cd034c83cc043b94bb153a95ba163996b9173897b81"
    var written = ""
    for byte in Q8Blocks.encoded(values) {
      if byte < 16 { written += "0" }
      written += String(byte, radix: 16)
    }
    #expect(written == expected)
    #expect(Q8Blocks.encoded([Double](repeating: .infinity, count: 32)).count == 34)
  }

  @Test func readsLongQ8Tensors() throws {
    // More blocks than the reader decodes at once; block b has scale 1 and 32 times the value b mod 128.
    let count = 2500
    var builder = GGUFBuilder()
    builder.tensors = [GGUFBuilder.tensor("a", [UInt64(32 * count)], type: 8)]
    for block in 0..<count {
      builder.data += [0x00, 0x3C] + [UInt8](repeating: UInt8(block % 128), count: 32)
    }
    let tensor = try open(builder.file, as: "x.gguf").tensors[0]
    let delivered = try tensor.bytes()
    #expect(delivered.count == 128 * count)
    for block in stride(from: 0, to: count, by: 7) {
      #expect(
        Array(delivered[128 * block..<128 * block + 4]) == bytes(Float(block % 128).bitPattern))
    }
  }

  @Test func listsOtherQuantisedTypes() throws {
    let tensor = try TensorFile(opening: Fixtures.path("gguf/quantised.gguf")).tensors[1]
    #expect(tensor.info.dtype.name == "Q4_0" && !tensor.info.dtype.isNumeric)
    #expect(tensor.info.shape.dimensions == [3, 64] && tensor.info.byteCount == 6 * 18)
    #expect(try tensor.bytes().count == 6 * 18)
  }

  @Test(arguments: ["all_types", "quantised", "adapter"])
  func rewritesWithoutLoss(name: String) throws {
    let path = Fixtures.path("gguf/\(name).gguf")
    let file = try TensorFile(opening: path)
    let again = try write(
      try file.tensors.map { ($0.undecoded.info, try $0.undecoded.bytes()) }, format: .gguf,
      metadata: file.metadata, ggufMetadata: file.ggufMetadata)
    // The library has the same layout, so that nothing differs at all.
    #expect(again == (try Fixtures.bytes("gguf/\(name).gguf")))
  }

  @Test func editedMetadataBecomesText() throws {
    var typed = GGUFMetadata()
    typed["b"] = .u32(1)
    typed["a"] = .u32(2)
    typed["gone"] = .u32(3)
    typed["deep"] = .array(.array([.u8([1, 2]), .array([.string(["x"]), .f64([])])]))
    let deep = try #require(typed["deep"]?.text)
    #expect(deep == "[[1,2],[[\"x\"],[]]]")
    let file = try open(
      write(
        [(info("s", .f32, []), [0, 0, 0, 0]), (info("e", .f16, [0, 3]), [])], format: .gguf,
        metadata: ["b": "1", "a": "two", "z": "new", "c": "é", "deep": deep], ggufMetadata: typed),
      as: "x.gguf")
    #expect(file.ggufMetadata.keys == ["b", "deep", "a", "c", "z"])
    #expect(file.ggufMetadata["b"] == .u32(1) && file.ggufMetadata["a"] == .string("two"))
    #expect(file.ggufMetadata["deep"] == typed["deep"])
    #expect(file.tensors.map(\.info.shape.dimensions) == [[], [0, 3]])
    typed["b"] = nil
    #expect(typed.keys == ["a", "gone", "deep"] && typed["b"] == nil)
  }

  @Test func alignmentIsThatOfTheMetadata() throws {
    func written(_ metadata: [String: String]) throws -> TensorFile {
      try open(
        write(
          [(info("a", .i8, [3]), [1, 2, 3]), (info("b", .i8, [1]), [4])], format: .gguf,
          metadata: metadata), as: "x.gguf")
    }
    let wide = try written(["general.alignment": "64"])
    #expect(wide.ggufMetadata["general.alignment"] == .u32(64))
    for tensor in wide.tensors { #expect((tensor.source.plainOffset ?? 1) % 64 == 0) }
    #expect(try wide.tensors[1].bytes() == [4])
    #expect(try written(["general.alignment": "4"]).warnings.count == 1)
    for text in ["0", "48", "x", "-8", "4294967296", "2147483648"] {
      #expect(try failure { _ = try written(["general.alignment": text]) }.id == "gguf.alignment")
    }
  }

  @Test func writerRefuses() throws {
    func refusal(_ name: String, _ dtype: DType, _ shape: [Int]) throws -> String {
      let planned = try info(name, dtype, shape)
      let error = try failure {
        _ = try write(
          [(planned, [UInt8](repeating: 0, count: planned.byteCount))], format: .gguf)
      }
      #expect(error.kind == .unsupported && error.tensor == name)
      return error.id
    }
    #expect(try refusal("a", .u8, [1]) == "gguf.dtype")
    #expect(try refusal("a", .bool, [1]) == "gguf.dtype")
    #expect(try refusal("a", .f8e4m3, [1]) == "gguf.dtype")
    #expect(try refusal("a", .f32, [1, 1, 1, 1, 1]) == "gguf.dimensions")
    #expect(try refusal(String(repeating: "n", count: 64), .f32, [1]) == "gguf.name")
    #expect(try refusal("a\0", .f32, [1]) == "gguf.name")
    #expect(try failure { _ = try write([], format: .gguf, metadata: ["": "x"]) }.id == "gguf.key")
  }

  @Test func readsVersionTwoAndAnUnpaddedTail() throws {
    let file = GGUFBuilder.with { $0.head[4] = 2 }
    #expect(try open(file, as: "x.gguf").tensors[0].bytes() == [UInt8](repeating: 1, count: 8))
    let padded = GGUFBuilder.with { $0.data += [UInt8](repeating: 0, count: 24) }
    #expect(try open(padded, as: "x.gguf").tensors.count == 1)
    let empty = GGUFBuilder.with {
      $0.tensors = []
      $0.data = []
      $0.alignment = 1
    }
    #expect(empty.count == 24)
    #expect(try open(empty, as: "x.gguf").tensors.isEmpty)
  }
}
