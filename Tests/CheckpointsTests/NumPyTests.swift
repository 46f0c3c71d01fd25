import Tensors
import Testing

@testable import Checkpoints

/// The tensors that a make.py says its files hold.
func expectedTensors(_ folder: String) throws -> [String: [(TensorInfo, [UInt8])]] {
  let json = try JSONValue(readingFile: Fixtures.path("\(folder)/expected.json"))
  var files: [String: [(TensorInfo, [UInt8])]] = [:]
  for file in try #require(json.members) {
    files[file.key] = try #require(file.value.members).map { member in
      let dtype = try #require(DType(safetensorsName: member.value["dtype"]?.text ?? ""))
      let shape = try #require(member.value["shape"]?.elements).map { $0.integer ?? -1 }
      let digits = Array(try #require(member.value["hex"]?.text).utf8)
      let bytes = try stride(from: 0, to: digits.count, by: 2).map {
        try #require(UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16))
      }
      return (try info(member.key, dtype, shape), bytes)
    }
  }
  return files
}

/// Files of NumPy, read bit for bit (fixtures/numpy/make.py), and the rules of the npy header.
@Suite struct NumPyTests {
  @Test func readsTheLibrarysFiles() throws {
    let expected = try expectedTensors("numpy")
    #expect(expected.count == 6)
    for (name, tensors) in expected {
      let file = try TensorFile(opening: Fixtures.path("numpy/\(name)"))
      #expect(Set(file.tensors.map(\.info)) == Set(tensors.map(\.0)), "\(name)")
      for (planned, bytes) in tensors {
        let tensor = try #require(file.tensors.first { $0.name == planned.name })
        #expect(try tensor.bytes() == bytes, "\(name) \(planned.name)")
      }
    }
  }

  private func refused(_ bytes: [UInt8]) throws -> SurgeryError {
    try failure(of: { _ = try open(bytes, as: "x.npy") })
  }

  @Test(arguments: [
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "npy.header"),
    ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "npy.duplicate"),
    ("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': false, 'shape': (2,)}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': [2]}", "npy.shape"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (2)}", "npy.shape"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': ('2',)}", "npy.shape"),
    ("{'descr': '<f4\\n', 'fortran_order': False, 'shape': (2,)}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,)}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (0x2,)}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (02,)}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (1_0,)}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -1)}", "npy.shape"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "npy.overflow"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775808)}", "npy.overflow"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}", "npy.overflow"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (274877906944,)}", "npy.truncated"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "npy.trailing"),
    ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "npy.object"),
    ("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}", "npy.object"),
    ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "npy.structured"),
    ("{'descr': [], 'fortran_order': False, 'shape': (1,)}", "npy.descr"),
    ("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}", "npy.structured"),
    ("{'descr': '<q9', 'fortran_order': False, 'shape': (1,)}", "npy.descr"),
    ("{'descr': '', 'fortran_order': False, 'shape': (1,)}", "npy.descr"),
    ("{'descr': '|V0', 'fortran_order': False, 'shape': (4611686018427387904,)}", "npy.descr"),
    ("{'descr': '<c16', 'fortran_order': False, 'shape': (1,)}", "npy.dtype"),
    ("{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}", "npy.dtype"),
    ("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", "npy.dtype"),
    ("{'descr': '|S4', 'fortran_order': False, 'shape': (1,)}", "npy.dtype"),
    ("{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1,)}", "npy.dtype"),
    ("{'descr': '|V1', 'fortran_order': False, 'shape': (8,)}", "npy.dtype"),
    ("__import__('os').system('true')", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + 1", "npy.header"),
    ("{'descr': '<f4' '', 'fortran_order': False, 'shape': (2,)}", "npy.header"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}\0", "npy.header"),
    ("7", "npy.header"), ("", "npy.header"), ("{", "npy.header"), ("{'", "npy.header"),
  ])
  func refusesHeaders(header: String, id: String) throws {
    let error = try refused(npy(header, data: [UInt8](repeating: 0, count: 8)))
    #expect(error.id == id, "\(error)")
    let isUnsupported = id == "npy.dtype" || id == "npy.structured"
    #expect(error.kind == (isUnsupported ? .unsupported : .data))
  }

  @Test func refusesPreambles() throws {
    let good = npy(npyHeader("|u1", "(1,)"), data: [0])
    #expect(try refused(npy(npyHeader("|u1", "(1,)"), version: [1, 1])).id == "npy.version")
    #expect(try refused(npy(npyHeader("|u1", "(1,)"), version: [4, 0])).id == "npy.version")
    #expect(try refused(npy(npyHeader("|u1", "(1,)"), version: [0, 0])).id == "npy.version")
    #expect(try refused([0x4E] + good.dropFirst()).id == "npy.magic")
    #expect(
      try refused(good[..<8] + [0xFF, 0xFF] + good[10...]).id == "npy.header-length")
    let spaces = String(repeating: " ", count: 10_000)
    #expect(try refused(npy(spaces + npyHeader("|u1", "(1,)"))).id == "npy.header-too-large")
    let nested = String(repeating: "(", count: 33) + String(repeating: ")", count: 33)
    #expect(try refused(npy("{'shape': \(nested)}")).id == "npy.depth")
    var latin = npy("{'é': 1}", version: [3, 0])
    latin[14] = 0xFF
    #expect(try refused(latin).id == "npy.utf8")
    for count in good.indices where count > 0 {
      #expect(throws: SurgeryError.self) { try open(Array(good[..<count]), as: "x.npy") }
    }
  }

  @Test func readsUnusualHeaders() throws {
    let data: [UInt8] = [0, 0, 128, 63]
    for header in [
      "{\"shape\":(1L,),\"fortran_order\":True,\"descr\":\"<f4\"}",
      "  {'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': 'float32', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '=f4', 'fortran_order': False, 'shape': (1,),}\n",
    ] {
      let file = try open(npy(header, data: data), as: "some.tensor.npy")
      #expect(file.tensors[0].info == (try info("some.tensor", .f32, [1])))
      #expect(try file.tensors[0].bytes() == data)
    }
    let big = try open(npy(npyHeader(">f4", "()"), data: data.reversed()), as: "x.npy")
    #expect(try big.tensors[0].bytes() == data && big.tensors[0].info.shape == .scalar)
    #expect(throws: SurgeryError.self) {
      try open(
        npy(
          "{'descr': '<f4', 'fortran_order': False, 'shape': (1L,)}", data: data, version: [3, 0]),
        as: "x.npy")
    }
  }

  @Test func readsRecordedTypes() throws {
    func archive(_ descr: String, _ comment: String) throws -> TensorFile {
      var zip = ZipBuilder([.init("a.npy", npy(npyHeader(descr, "(2,)"), data: [1, 2, 3, 4]))])
      zip.members[0].comment = Array(comment.utf8)
      return try open(zip.bytes, as: "x.npz")
    }
    #expect(try archive("<u2", "dtype=BF16").tensors[0].info.dtype == .bf16)
    #expect(try archive("<u2", "something else").tensors[0].info.dtype == .u16)
    #expect(try archive("<V2", "").tensors[0].info.dtype == .bf16)
    #expect(try failure(of: { _ = try archive("<i2", "dtype=BF16") }).id == "npy.recorded")
    #expect(try failure(of: { _ = try archive("<u2", "dtype=F8_E4M3") }).id == "npy.recorded")
  }

  @Test func namesStrangersInArchives() throws {
    let array = npy(npyHeader("|u1", "(1,)"), data: [0])
    let zip = ZipBuilder([.init("a", array), .init("README", [1, 2, 3])])
    let file = try open(zip.bytes, as: "x.npz")
    #expect(file.tensors.map(\.name) == ["a"] && file.warnings.count == 1)
    let text = ZipBuilder([.init("a.npy", [1, 2, 3])])
    #expect(try failure(of: { _ = try open(text.bytes, as: "x.npz") }).id == "npy.magic")
    let torch = ZipBuilder([.init("x/data.pkl", [0x80, 2])])
    #expect(try failure(of: { _ = try open(torch.bytes, as: "x.npz") }).id == "npz.torch")
    let others = ZipBuilder([.init("adapter/adapter_config.json", Array("{}".utf8))])
    let error = try failure(of: { _ = try open(others.bytes, as: "adapter.zip") })
    #expect(error.id == "npz.no-arrays" && error.found == "adapter/adapter_config.json")
  }

  /// Only what this program writes stands in that member; anything else is damage.
  @Test(arguments: ["[]", "{}", #"{"__metadata__":7}"#, #"{"__metadata__":{"a":7}}"#])
  func metadataThatIsNoText(_ json: String) throws {
    let array = npy(npyHeader("|u1", "(1,)"), data: [0])
    let zip = ZipBuilder([.init("a.npy", array), .init("__metadata__.json", Array(json.utf8))])
    let error = try failure(of: { _ = try open(zip.bytes, as: "x.npz") })
    #expect(error.id == "npz.metadata" && error.kind == .data && error.file != nil)
    #expect(error.what.contains("\"__metadata__.json\" is not an object of strings"))
    let folder = try TemporaryFolder()
    try folder.makeFolder("model")
    try folder.write("model/a.npy", array)
    try folder.write("model/__metadata__.json", Array(json.utf8))
    let inFolder = try failure(of: { _ = try Checkpoint(opening: folder.path("model")) })
    #expect(
      inFolder.id == "npz.metadata" && inFolder.file == folder.path("model/__metadata__.json"))
  }

  /// An empty array has no bytes that somebody would read, so its checksum is settled when it is opened.
  @Test func checksEmptyArraysWhenOpening() throws {
    var zip = ZipBuilder([.init("a.npy", npy(npyHeader("<f4", "(0, 3)")))])
    #expect(try open(zip.bytes, as: "x.npz").tensors[0].bytes().isEmpty)
    zip.members[0].crc = 3
    #expect(try failure(of: { _ = try open(zip.bytes, as: "x.npz") }).id == "zip.crc")
  }

  @Test func readsFoldersOfArrays() throws {
    let folder = try TemporaryFolder()
    try folder.makeFolder("model/layers")
    let array = npy(npyHeader("|u1", "(1,)"), data: [7])
    try folder.write("model/layers/0.weight.npy", array)
    try folder.write("model/bias.npy", array)
    try folder.write("model/notes.txt", [1])
    try folder.write("model/__metadata__.json", Array("{\"__metadata__\":{\"a\":\"b\"}}".utf8))
    try folder.link("model/layers/up", to: folder.path("model"))
    let checkpoint = try Checkpoint(opening: folder.path("model"))
    #expect(checkpoint.layout == .arrays && checkpoint.metadata == ["a": "b"])
    #expect(checkpoint.tensors.map(\.name) == ["bias", "layers/0.weight"])
    #expect(checkpoint.companions.map(\.relativePath) == ["notes.txt"])
    for tensor in checkpoint.tensors { #expect(try tensor.bytes() == [7]) }
  }
}
