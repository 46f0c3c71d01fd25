import Glibc
import Tensors
import Testing

@testable import Checkpoints

/// Every rule of the safetensors reader, with the bytes written out.
@Suite struct SafetensorsRefusalTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var id: String
    var file: [UInt8]
    var testDescription: String {
      "\(id): \(DisplayText.escaped(String(decoding: file, as: UTF8.self)))"
    }

    init(_ id: String, _ header: String, data: Int = 0) {
      self.id = id
      file = safetensors(header, data: [UInt8](repeating: 0, count: data))
    }

    init(_ id: String, raw: [UInt8]) {
      self.id = id
      file = raw
    }
  }

  private static func tensor(_ fields: String) -> String { "{\"a\":{\(fields)}}" }
  private static let whole = #""dtype":"F32","shape":[2],"data_offsets":[0,8]"#

  static let lengths: [Case] = [
    Case("file.empty", raw: []),
    Case("st.short", raw: [2, 0, 0, 0, 0, 0, 0]),
    Case("st.header-length", raw: bytes(UInt64(0))),
    Case("st.header-length", raw: bytes(UInt64(1)) + [0x7B]),
    Case("st.header-length", raw: bytes(UInt64(3)) + Array("{}".utf8)),
    Case("st.header-length", raw: bytes(UInt64(1) << 63) + Array("{}".utf8)),
    Case("st.header-length", raw: bytes(UInt64.max - 7) + Array("{}".utf8)),
    Case("st.header-length", raw: bytes(UInt64.max) + Array("{}".utf8)),
  ]

  static let grammar: [Case] = [
    Case("st.json", "[]"), Case("st.json", "7 "), Case("st.json", "{ "), Case("st.json", "{}{}"),
    Case("st.json", "{},"), Case("st.json", "{\"a\"}"), Case("st.json", "{'a':1}"),
    Case("st.json", "{\"__metadata__\":{},}"), Case("st.json", "{/**/}"), Case("st.json", "{}\0"),
    Case("st.json", "\u{FEFF}{}"), Case("st.json", "{\"a\u{1}\":0}"),
    Case("st.json", tensor(whole + ",\"x\":01"), data: 8),
    Case("st.json", tensor(whole + ",\"x\":1."), data: 8),
    Case("st.json", tensor(whole + ",\"x\":.5"), data: 8),
    Case("st.json", tensor(whole + ",\"x\":1e"), data: 8),
    Case("st.json", tensor(whole + ",\"x\":+1"), data: 8),
    Case("st.json", tensor(whole + ",\"x\":NaN"), data: 8),
    Case("st.json", tensor(whole + ",\"x\":tru"), data: 8),
    Case("st.json", tensor(whole + ",\"x\":\"\\x\""), data: 8),
    Case("st.json", tensor(whole + ",\"x\":\"\\u12\""), data: 8),
    Case("st.utf8", tensor(whole + ",\"x\":\"\\ud800\""), data: 8),
    Case("st.utf8", tensor(whole + ",\"x\":\"\\ud800\\u0041\""), data: 8),
    Case("st.utf8", tensor(whole + ",\"x\":\"\\udc00\""), data: 8),
    Case("st.utf8", raw: safetensors([0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x30, 0x7D])),
    Case("st.utf8", raw: safetensors([0x7B, 0x22, 0xC0, 0x80, 0x22, 0x3A, 0x30, 0x7D])),
    Case("st.utf8", raw: safetensors([0x7B, 0x22, 0xED, 0xA0, 0x80, 0x22, 0x3A, 0x30, 0x7D])),
    Case(
      "st.utf8", raw: safetensors([0x7B, 0x22, 0xF4, 0x90, 0x80, 0x80, 0x22, 0x3A, 0x30, 0x7D])),
    Case(
      "st.depth",
      tensor(whole + ",\"x\":" + String(repeating: "[", count: 100_000)), data: 8),
  ]

  static let duplicates: [Case] = [
    Case("st.duplicate", "{\"a\":{\(whole)},\"a\":{\(whole)}}", data: 8),
    Case("st.duplicate", "{\"a\":{\(whole)},\"\\u0061\":{\(whole)}}", data: 8),
    Case("st.duplicate", tensor(whole + ",\"dtype\":\"F32\""), data: 8),
    Case("st.duplicate", "{\"__metadata__\":{},\"__metadata__\":{}}"),
    Case("st.duplicate", "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}"),
    Case("st.duplicate", tensor(whole + ",\"x\":{\"y\":1,\"y\":2}"), data: 8),
    // Canonically equal, so a Swift dictionary would lose one of them.
    Case("st.metadata", "{\"__metadata__\":{\"\u{E9}\":\"1\",\"e\u{301}\":\"2\"}}"),
  ]

  static let fields: [Case] = [
    Case("st.metadata", "{\"__metadata__\":null}"), Case("st.metadata", "{\"__metadata__\":[]}"),
    Case("st.metadata", "{\"__metadata__\":{\"k\":1}}"),
    Case("st.metadata", "{\"__metadata__\":{\"k\":null}}"),
    Case("st.json", "{\"a\":[\"F32\",[2],[0,8]]}", data: 8), Case("st.json", "{\"a\":null}"),
    Case("st.json", tensor(#""shape":[2],"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":[2]"#), data: 8),
    Case("st.json", tensor(#""dtype":{"F32":null},"shape":[2],"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":null,"shape":[2],"data_offsets":[0,8]"#), data: 8),
    Case("st.dtype", tensor(#""dtype":"f32","shape":[2],"data_offsets":[0,8]"#), data: 8),
    Case("st.dtype", tensor(#""dtype":"F31","shape":[2],"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":2,"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":[2.0],"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":[2e0],"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":["2"],"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":[[2]],"data_offsets":[0,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":[2],"data_offsets":[0]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":[2],"data_offsets":[0,8,8]"#), data: 8),
    Case("st.json", tensor(#""dtype":"F32","shape":[2],"data_offsets":[0,8.0]"#), data: 8),
    Case(
      "st.json", tensor(#""dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616]"#),
      data: 8),
    Case("st.offsets", tensor(#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#), data: 8),
  ]

  static let sizes: [Case] = [
    Case("st.size", tensor(#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#), data: 4),
    Case("st.size", tensor(#""dtype":"F32","shape":[2],"data_offsets":[0,12]"#), data: 12),
    Case("st.size", tensor(#""dtype":"F32","shape":[],"data_offsets":[0,0]"#)),
    Case(
      "st.overflow", tensor(#""dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]"#)),
    Case(
      "st.overflow",
      tensor(#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]"#)),
    Case(
      "st.overflow",
      tensor(#""dtype":"F32","shape":[0,4611686018427387904,2],"data_offsets":[0,0]"#)),
    Case(
      "st.overflow", tensor(#""dtype":"F64","shape":[288230376151711744],"data_offsets":[0,0]"#)),
    Case("st.sub-byte", tensor(#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#), data: 2),
    Case("st.sub-byte", tensor(#""dtype":"F6_E2M3","shape":[3],"data_offsets":[0,3]"#), data: 3),
  ]

  private static func two(_ first: String, _ second: String) -> String {
    #"{"a":{"dtype":"F32","shape":[2],"data_offsets":"# + first
      + #"},"b":{"dtype":"F32","shape":[2],"data_offsets":"# + second + "}}"
  }

  static let ranges: [Case] = [
    Case("st.truncated", tensor(whole), data: 7), Case("st.truncated", tensor(whole), data: 0),
    Case(
      "st.truncated",
      tensor(
        #""dtype":"F32","shape":[2],"data_offsets":[18446744073709551600,18446744073709551608]"#),
      data: 8),
    Case("st.trailing", tensor(whole), data: 9), Case("st.trailing", "{}", data: 1),
    Case("st.hole", tensor(#""dtype":"F32","shape":[2],"data_offsets":[4,12]"#), data: 12),
    Case("st.hole", two("[0,8]", "[12,20]"), data: 20),
    Case("st.overlap", two("[0,8]", "[4,12]"), data: 12),
    Case("st.overlap", two("[0,8]", "[0,8]"), data: 8),
    Case(
      "st.hole",
      #"{"a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
      data: 12),
  ]

  @Test(arguments: lengths + grammar + duplicates + fields + sizes + ranges)
  func refuses(_ bad: Case) throws {
    let error = try failure { _ = try open(bad.file, as: "x.safetensors") }
    #expect(error.id == bad.id, "\(error)")
    #expect(error.kind == .data)
    #expect(error.file?.hasSuffix("x.safetensors") == true)
    #expect(error.description.utf8.count < 4000)
  }

  @Test func errorsSayWhere() throws {
    let header = Self.two("[0,8]", "[4,12]")
    let error = try failure {
      _ = try open(safetensors(header, data: [UInt8](repeating: 0, count: 12)), as: "x")
    }
    #expect(error.tensor == "b" && error.expected == "begin 8" && error.found == "begin 4")
    #expect(error.offset == UInt64(8 + header.utf8.count + 4))
    let syntax = try failure { _ = try open(safetensors("{\"a\" 1}"), as: "x") }
    #expect(syntax.offset == 13)
  }

  @Test func longHeaderIsRefusedUnread() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("x.safetensors", bytes(UInt64(100_000_001)) + Array("{}".utf8))
    let file = try #require(unsafe fopen(path, "r+"))
    #expect(unsafe ftruncate(fileno(file), 200_000_000) == 0)
    unsafe fclose(file)
    let error = try failure { _ = try TensorFile(opening: path) }
    #expect(error.id == "st.header-too-large")
  }

  @Test(arguments: [
    ("version https://git-lfs.github.com/spec/v1\n", "git-lfs"), ("<!DOCTYPE html>", "HTML"),
    ("<html>", "HTML"), ("<?xml version=\"1.0\"?>", "XML"), ("Entry not found", "a text"),
    ("{\"error\": \"Invalid username or password.\"}", "JSON"), (" \n[\"a\", \"list\"]", "JSON"),
    ("PK\u{3}\u{4}\u{14}", "zip"),
  ])
  func strangersAreNamed(text: String, word: String) throws {
    let error = try failure { _ = try open(Array(text.utf8), as: "x.safetensors") }
    #expect(error.id == "file.unknown" && error.what.contains(word))
  }

  @Test func otherStrangers() throws {
    #expect(
      try failure { _ = try open([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0], as: "x") }.id
        == "file.compressed")
    let misnamed = try failure {
      _ = try open(Array("GGUF".utf8) + bytes(UInt32(3)), as: "x.safetensors")
    }
    #expect(misnamed.id == "file.misnamed" && misnamed.kind == .data)
    #expect(try failure { _ = try open(safetensors("{}"), as: "x.gguf") }.id == "file.misnamed")
    #expect(try open(safetensors("{}"), as: "x.bin").format == .safetensors)
    let renamed = Array("PK\u{3}\u{4}".utf8) + [UInt8](repeating: 0, count: 26)
    let torch = try failure {
      _ = try open(renamed + Array("archive/data.pkl".utf8), as: "x.safetensors")
    }
    #expect(torch.id == "file.misnamed" && torch.hint == "rename it to .pt")
  }

  @Test func textsAreShownInOneLine() throws {
    let config = Array("{\n  \"r\": 8\n}".utf8)
    let error = try failure { _ = try open(config, as: "adapter_config.json") }
    #expect(error.found == "{ \"r\": 8 }" && error.what.contains("JSON"))
  }

  @Test func pathsOfNothingAreExplained() throws {
    let folder = try TemporaryFolder()
    for path in ["https://huggingface.co/some/model", "some-owner-of-models/model", "", "~/model"] {
      let error = try failure { _ = try Checkpoint(opening: path) }
      #expect(error.id == "file.missing" && error.hint != nil, "\(path)")
    }
    #expect(try failure { _ = try Checkpoint(opening: folder.path("model")) }.hint == nil)
  }
}
