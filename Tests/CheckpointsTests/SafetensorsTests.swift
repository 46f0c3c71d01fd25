import Tensors
import Testing

@testable import Checkpoints

/// Files of the reference library, read bit for bit and written byte for byte (fixtures/safetensors/make.py).
@Suite struct SafetensorsTests {
  private static let order: [DType] = [
    .bool, .u8, .i8, .u16, .i16, .u32, .i32, .u64, .i64, .f16, .bf16, .f32, .f64, .f8e4m3, .f8e5m2,
    .f8e8m0, .c64, .f8e4m3fnuz, .f8e5m2fnuz,
  ]

  private func allTypes() throws -> [(TensorInfo, [UInt8])] {
    try Self.order.enumerated().map { n, dtype in
      let planned = try info("t.\(dtype.name)", dtype, [2, 4])
      let raw = Fixtures.data(n, count: planned.byteCount)
      return (planned, dtype == .bool ? raw.map { $0 & 1 } : raw)
    }
  }

  @Test func readsEveryType() throws {
    let file = try TensorFile(opening: Fixtures.path("safetensors/all_dtypes.safetensors"))
    #expect(file.format == .safetensors && file.warnings.isEmpty)
    #expect(file.metadata == ["format": "pt"])
    #expect(file.tensors.count == Self.order.count)
    for (planned, bytes) in try allTypes() {
      let tensor = try #require(file.tensors.first { $0.name == planned.name })
      #expect(tensor.info == planned && tensor.storedDType == planned.dtype)
      #expect(try tensor.bytes() == bytes)
    }
  }

  @Test func writesEveryTypeAsTheReference() throws {
    let reference = try Fixtures.bytes("safetensors/all_dtypes.safetensors")
    #expect(
      try write(allTypes(), format: .safetensors, metadata: ["format": "pt"]) == reference)
    #expect(
      try write(allTypes().reversed(), format: .safetensors, metadata: ["format": "pt"])
        == reference)
  }

  @Test(arguments: ["all_dtypes", "shapes", "no_tensors", "names"])
  func rewritesAsTheReference(name: String) throws {
    let path = "safetensors/\(name).safetensors"
    let file = try TensorFile(opening: Fixtures.path(path))
    let again = try write(
      try file.tensors.map { ($0.info, try $0.bytes()) }.shuffled(), format: .safetensors,
      metadata: file.metadata)
    #expect(again == (try Fixtures.bytes(path)))
  }

  @Test func readsOddShapes() throws {
    let file = try TensorFile(opening: Fixtures.path("safetensors/shapes.safetensors"))
    let shapes: [(String, [Int])] = [
      ("deep", [1, 2, 1, 3, 1, 2]), ("empty", [0]), ("empty.matrix", [3, 0, 2]), ("one", [1]),
      ("scalar", []),
    ]
    #expect(Set(file.tensors.map(\.info)) == Set(try shapes.map { try info($0, .f32, $1) }))
    for tensor in file.tensors { #expect(try tensor.bytes().count == tensor.info.byteCount) }
  }

  @Test func readsOddNames() throws {
    let file = try TensorFile(opening: Fixtures.path("safetensors/names.safetensors"))
    let names: Set<TensorName> = [
      "\u{E9}", "e\u{301}", "a\"b\\c/d", "tab\tnewline\n", "\u{8}\u{C}\u{1}", "名前", "😀", "",
    ]
    #expect(Set(file.tensors.map(\.name)) == names)
    #expect(file.metadata == ["key \"é\"": "value\n😀"])
  }

  @Test(arguments: [
    "  \n{}", "{}  ", "{ }", "{\"__metadata__\":{}}",
    #"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"extra":{"x":[1e5,-0.5,null,true]}}}"#,
    #"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}}"#,
    #"{"a":{"dtype":"F4","shape":[0],"data_offsets":[0,0]},"\ud83d\ude00":{"shape":[0],"data_offsets":[0,0],"dtype":"I8"}}"#,
  ])
  func readsUnusualHeaders(header: String) throws {
    let file = try open(safetensors(header), as: "x.safetensors")
    #expect(file.warnings.isEmpty == !(header.hasPrefix(" ") || header.contains("extra")))
  }

  @Test func depthIsLimitedNotForbidden() throws {
    func nested(_ depth: Int) -> [UInt8] {
      let value = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
      return safetensors(
        #"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"x":\#(value)}}"#)
    }
    _ = try open(nested(62), as: "x")
    #expect(try failure { _ = try open(nested(63), as: "x") }.id == "st.depth")
  }

  @Test func writerRefuses() throws {
    let blocks = DType.blockQuantised(
      BlockQuantisation(name: "Q4_0", elementsPerBlock: 32, bytesPerBlock: 18))
    let quantised = try failure {
      _ = try write(
        [(info("a", blocks, [32]), [UInt8](repeating: 0, count: 18))], format: .safetensors)
    }
    #expect(quantised.id == "st.dtype" && quantised.kind == .unsupported && quantised.tensor == "a")
    let named = try failure {
      _ = try write([(info("__metadata__", .u8, [1]), [0])], format: .safetensors)
    }
    #expect(named.id == "st.name")
  }

  @Test func roundTripsRandomTensors() throws {
    var random = SeededGenerator(state: 99)
    for _ in 0..<40 {
      var tensors: [(TensorInfo, [UInt8])] = []
      for n in 0..<Int.random(in: 0..<6, using: &random) {
        let dimensions = (0..<Int.random(in: 0..<4, using: &random)).map { _ in
          Int.random(in: 0..<5, using: &random)
        }
        let dtype = Self.order.randomElement(using: &random) ?? .f32
        let planned = try info("\(n)", dtype, dimensions)
        tensors.append(
          (planned, (0..<planned.byteCount).map { _ in UInt8.random(in: 0...255, using: &random) }))
      }
      let file = try open(write(tensors, format: .safetensors), as: "x.safetensors")
      #expect(file.tensors.count == tensors.count)
      for (planned, bytes) in tensors {
        let tensor = try #require(file.tensors.first { $0.name == planned.name })
        #expect(tensor.info == planned)
        #expect(try tensor.bytes() == bytes)
        let start = try #require(tensor.source.plainOffset)
        #expect(start % UInt64(planned.dtype.bytesPerElement ?? 1) == 0)
      }
    }
  }

  @Test func aFileThatShrinksIsAnError() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write(
      "x.safetensors",
      safetensors(
        #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, data: [1, 2, 3, 4]))
    let file = try TensorFile(opening: path)
    try file.file.checkUnchanged()
    try folder.write("x.safetensors", Array("{}".utf8))
    #expect(try failure { try file.file.checkUnchanged() }.id == "io.changed")
    let error = try failure { _ = try file.tensors[0].bytes() }
    #expect(error.id == "io.changed" && error.kind == .io)
  }
}
