import Tensors
import Testing

@testable import Checkpoints

/// What is written as npy and npz, by its bytes and read back.
@Suite struct NumPyWriterTests {
  private static let types: [DType] = [
    .bool, .u8, .i8, .u16, .i16, .u32, .i32, .u64, .i64, .f16, .bf16, .f32, .f64, .f8e4m3, .f8e5m2,
    .f8e8m0, .c64, .f8e4m3fnuz, .f8e5m2fnuz,
  ]

  private func tensors() throws -> [(TensorInfo, [UInt8])] {
    var planned = try Self.types.map { try info("t.\($0)", $0, [2, 4]) }
    for shape in [[], [0], [3, 0, 2], [1], [1, 2, 1, 3]] {
      planned.append(try info("größe/\(shape.count).\(shape.first ?? 1)", .f32, shape))
    }
    return planned.enumerated().map { ($1, Fixtures.data($0, count: $1.byteCount)) }
  }

  /// Writes an npz, tensor after tensor in pieces of 5 bytes.
  private func npz(
    _ tensors: [(TensorInfo, [UInt8])], compression: Int?, metadata: [String: String] = [:],
    order: [Int]? = nil
  ) throws -> [UInt8] {
    let folder = try TemporaryFolder()
    let plan = TensorFilePlan(
      relativePath: "x.npz", format: .npz, tensors: tensors.map(\.0), metadata: metadata,
      compression: compression)
    let writer = try CheckpointWriter(
      CheckpointPlan(path: folder.path("x.npz"), kind: .file, files: [plan]), replacing: false,
      inputs: [], interruption: Interruption())
    #expect(writer.isSequential(file: 0) == (compression != nil))
    for index in order ?? Array(tensors.indices) {
      let bytes = tensors[index].1
      for start in stride(from: 0, to: bytes.count, by: 5) {
        let piece = Array(bytes[start..<min(start + 5, bytes.count)])
        try writer.write(
          piece.span.bytes, to: PlannedTensor(file: 0, tensor: index), at: start,
          through: WriteStage())
      }
    }
    try writer.commit()
    return try folder.bytes("x.npz")
  }

  private func check(_ file: TensorFile, holds tensors: [(TensorInfo, [UInt8])]) throws {
    #expect(file.tensors.map(\.info) == tensors.map(\.0))
    for (tensor, (_, bytes)) in zip(file.tensors, tensors) {
      #expect(try tensor.bytes() == bytes, "\(tensor.name)")
    }
  }

  @Test(arguments: [nil, 1, 9]) func readsBackWhatItWrites(compression: Int?) throws {
    let tensors = try tensors()
    let written = try npz(tensors, compression: compression, metadata: ["k": "v", "é": "\u{5}"])
    let file = try open(written, as: "x.npz")
    #expect(file.metadata == ["k": "v", "é": "\u{5}"] && file.warnings.isEmpty)
    try check(file, holds: tensors)
    // The order of writing leaves no trace where it is free.
    let again = try npz(
      tensors, compression: compression, metadata: ["é": "\u{5}", "k": "v"],
      order: compression == nil ? tensors.indices.reversed() : nil)
    #expect(again == written)
  }

  @Test func compressedTensorsMayComeInAnyOrder() throws {
    let tensors = try tensors()
    let written = try npz(tensors, compression: 1, order: tensors.indices.reversed())
    try check(try open(written, as: "x.npz"), holds: tensors)
  }

  @Test func compresses() throws {
    let zeros = [(try info("z", .f32, [1000, 100]), [UInt8](repeating: 0, count: 400_000))]
    let written = try npz(zeros, compression: 6)
    #expect(written.count < 4000)
    try check(try open(written, as: "x.npz"), holds: zeros)
  }

  @Test func alignsData() throws {
    let folder = try TemporaryFolder()
    let written = try npz(try tensors(), compression: nil, metadata: ["k": "v"])
    let archive = try ZipArchive(
      try InputFile(folder.write("x.npz", written)), limits: ReadLimits())
    for entry in archive.entries {
      #expect(entry.dataOffset % 64 == 0)
      let header = try archive.prefix(of: entry, count: NpyHeader.preambleSize)
      #expect(try NpyHeader.size(from: header, of: entry.size) % 64 == 0)
    }
    #expect(String(decoding: archive.comment, as: UTF8.self) == #"{"__metadata__":{"k":"v"}}"#)
  }

  @Test func keepsLongMetadataInAMember() throws {
    let long = ["long": String(repeating: "x", count: 70_000)]
    for compression in [nil, 1] {
      let written = try npz(
        [(try info("a", .u8, [1]), [9])], compression: compression, metadata: long)
      let file = try open(written, as: "x.npz")
      #expect(file.metadata == long && file.tensors.map(\.name) == ["a"])
    }
  }

  @Test func writesHeadersAsNumPy() throws {
    let written = try write(
      [(try info("x", .f32, [2, 3]), Fixtures.data(0, count: 24))], format: .npy)
    let reference = try Fixtures.bytes("numpy/version1.npy")
    #expect(written[..<128] == reference[..<128])
    let bfloat = try write(
      [(try info("x", .bf16, [2, 3]), Fixtures.data(0, count: 12))], format: .npy)
    #expect(bfloat[..<128] == (try Fixtures.bytes("numpy/bfloat16.npy"))[..<128])
    #expect(try open(bfloat, as: "x.npy").tensors[0].info.dtype == .bf16)
    let scalar = try write([(try info("x", .i8, []), [3])], format: .npy)
    #expect(try open(scalar, as: "x.npy").tensors[0].bytes() == [3])
  }

  @Test func refusesWhatNumPyCannotHold() throws {
    func id(_ format: FileFormat, _ infos: [TensorInfo]) throws -> String {
      try failure(of: { _ = try write(infos.map { ($0, []) }, format: format) }).id
    }
    #expect(try id(.npy, [info("a", .f8e4m3, [0])]) == "npy.dtype")
    #expect(try id(.npz, [info("a", .f4, [0])]) == "npy.dtype")
    #expect(try id(.npy, []) == "npy.count")
    #expect(try id(.npy, [info("a", .u8, [0]), info("b", .u8, [0])]) == "npy.count")
    for name in ["../x", "", "/x", "a//b", "C:x", "a\nb"] {
      #expect(try id(.npz, [info(name, .u8, [0])]) == "npz.name")
      #expect(
        try failure(of: { _ = try TensorFilePlan.npyFolder([info(name, .u8, [0])]) }).id
          == "npy.name")
    }
    #expect(try id(.npz, [info("a", .u8, [0]), info("a.npy", .u8, [0])]) == "npz.name")
    #expect(
      try id(.npz, [info("a", .u8, Array(repeating: 1, count: 5000))]) == "npy.header-too-large")
    let clash = try [info("a", .u8, [0]), info("a.npy/b", .u8, [0])]
    #expect(try failure(of: { _ = try TensorFilePlan.npyFolder(clash) }).id == "npy.name")
    let level = try failure(of: { _ = try npz([], compression: 10) })
    #expect(level.kind == .usage && level.id == "npz.level")
  }

  @Test func refusesCutArchives() throws {
    let folder = try TemporaryFolder()
    for compression in [nil, 6] {
      let small = [(try info("a", .f32, [3]), Fixtures.data(1, count: 12))]
      let whole = try npz(small, compression: compression, metadata: ["k": "v"])
      for count in whole.indices {
        let path = try folder.write("x.npz", Array(whole[..<count]))
        #expect(throws: SurgeryError.self) { try TensorFile(opening: path) }
      }
    }
  }

  /// Headers of members beyond 4 GiB, which no test can afford to write.
  @Test func spellsZip64WhereNeeded() {
    var member = ZipMember(
      name: "a.npy", method: .stored, size: 5 << 30, largestCompressed: 5 << 30)
    member.place(at: 6 << 30)
    #expect(member.dataOffset % 64 == 0)
    #expect(UInt64(member.localHeader.count) == member.dataOffset - member.headerOffset)
    #expect(UInt64(member.directoryEntry.count) == member.directoryEntrySize)
    let wide = bytes(UInt64(5 << 30)) + bytes(UInt64(5 << 30))
    #expect(Array(member.localHeader[35...].prefix(20)) == [1, 0, 16, 0] + wide)
    #expect(
      Array(member.directoryEntry[51...]) == [1, 0, 24, 0] + wide + bytes(UInt64(6 << 30)))
    let end = ZipEnd(count: 70_000, directoryOffset: 9, directorySize: 8, comment: [1])
    #expect(UInt64(end.bytes.count) == end.size && end.bytes.starts(with: [0x50, 0x4B, 6, 6]))
  }
}
