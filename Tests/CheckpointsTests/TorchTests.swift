import Tensors
import Testing

@testable import Checkpoints

/// Files of torch, read bit for bit (fixtures/torch/make.py), and checkpoints put together by hand.
@Suite struct TorchTests {
  @Test func readsTheLibrarysFiles() throws {
    let expected = try expectedTensors("torch")
    #expect(expected.count == 10)
    for (name, tensors) in expected where name != "protocol4.pt" {
      let file = try TensorFile(opening: Fixtures.path("torch/\(name)"))
      #expect(file.format == .torch)
      #expect(Set(file.tensors.map(\.info)) == Set(tensors.map(\.0)), "\(name)")
      for (planned, bytes) in tensors {
        let tensor = try #require(file.tensors.first { $0.name == planned.name })
        #expect(try tensor.bytes() == bytes, "\(name) \(planned.name)")
      }
    }
  }

  @Test func reportsWhatIsNoTensor() throws {
    let wrapped = try TensorFile(opening: Fixtures.path("torch/wrapped.pth"))
    #expect(wrapped.metadata == ["epoch": "3", "torch.wrapper": "model"])
    #expect(
      wrapped.warnings.count == 1 && wrapped.warnings[0].contains("optimizer.state.0.exp_avg"))
    let nested = try TensorFile(opening: Fixtures.path("torch/nested.pt"))
    #expect(nested.metadata == ["note": "text", "rate": "0.5"])
    let views = try TensorFile(opening: Fixtures.path("torch/views.pt"))
    #expect(views.warnings.count == 1 && views.warnings[0].contains("tied"))
  }

  private func opened(_ value: [UInt8]) throws -> TensorFile {
    try open(torchArchive(Pickle.program(value)).bytes, as: "x.pt")
  }

  @Test func readsByHand() throws {
    let file = try opened(Pickle.dictionary([("w", Pickle.tensor())]))
    #expect(file.tensors.map(\.info) == [try info("w", .f32, [2, 2])])
    #expect(try file.tensors[0].bytes() == Array(0..<16))
    let transposed = try opened(Pickle.dictionary([("w", Pickle.tensor(stride: [1, 2]))]))
    #expect(
      try transposed.tensors[0].bytes()
        == [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15])
    let float8 = Pickle.call(
      "_rebuild_tensor_v3",
      [
        Pickle.storage("UntypedStorage", count: 16), Pickle.integer(4), Pickle.tuple([2]),
        Pickle.tuple([1]), [0x89], Pickle.orderedDict + Pickle.empty + Pickle.reduce,
        Pickle.global("torch", "float8_e4m3fn"),
      ])
    let small = try opened(Pickle.dictionary([("w", float8)]))
    #expect(small.tensors[0].info.dtype == .f8e4m3)
    #expect(try small.tensors[0].bytes() == [4, 5])
    #expect(try opened(Pickle.dictionary([])).tensors.isEmpty)
    // Python 2 made an OrderedDict from a list of pairs.
    let pairs = Pickle.list([Pickle.list([Pickle.text("w"), Pickle.tensor()])])
    let old = try opened(Pickle.orderedDict + Pickle.tuple([pairs]) + Pickle.reduce)
    #expect(old.tensors.map(\.name) == ["w"])
    let built =
      Pickle.orderedDict + Pickle.empty + Pickle.reduce + Pickle.dictionary([("_metadata", [0x4E])])
      + [UInt8(ascii: "b")]
    #expect(try opened(built).tensors.isEmpty)
  }

  @Test func swapsBigEndianStorages() throws {
    let program = Pickle.program(Pickle.dictionary([("w", Pickle.tensor())]))
    func archive(_ order: String) -> [UInt8] {
      torchArchive(program, others: [("archive/byteorder", Array(order.utf8))]).bytes
    }
    let big = try open(archive("big"), as: "x.pt")
    #expect(try big.tensors[0].bytes().prefix(5) == [3, 2, 1, 0, 7])
    #expect(try open(archive("little"), as: "x.pt").tensors[0].bytes().prefix(2) == [0, 1])
    #expect(
      try failure(of: { _ = try open(archive("middle"), as: "x.pt") }).id == "torch.byteorder")
  }

  @Test func checksChecksumsUnlessThereAreNone() throws {
    var zip = torchArchive(Pickle.program(Pickle.dictionary([("w", Pickle.tensor())])))
    for index in zip.members.indices { zip.members[index].crc = 0 }
    let file = try open(zip.bytes, as: "x.pt")
    #expect(try file.tensors[0].bytes() == Array(0..<16))
    #expect(file.tensors[0].source.plainOffset != nil)
    zip.members[0].crc = nil
    let half = try open(zip.bytes, as: "x.pt")
    #expect(try failure(of: { _ = try half.tensors[0].bytes() }).id == "zip.crc")
  }

  @Test func refusesOtherLayouts() throws {
    let program = Pickle.program(Pickle.dictionary([]))
    func refused(_ change: (inout ZipBuilder) -> Void) throws -> SurgeryError {
      var zip = torchArchive(program)
      change(&zip)
      return try failure(of: { _ = try open(zip.bytes, as: "x.pt") })
    }
    let script = try refused { $0.members.append(.init("archive/constants.pkl", [])) }
    #expect(script.id == "torch.script" && script.kind == .unsupported)
    #expect(try refused { $0.members.append(.init("archive/code/a.py", [])) }.id == "torch.script")
    #expect(
      try refused { $0.members.append(.init("other/data.pkl", [])) }.id == "torch.duplicate-pickle")
    #expect(
      try refused { $0.members.append(.init("archive/DATA.PKL", [])) }.id
        == "torch.duplicate-pickle")
    #expect(
      try refused { $0.members[0].name = Array("archive/DATA.PKL".utf8) }.id == "torch.no-pickle")
    #expect(try refused { $0.members[0].name = Array("a/b/data.pkl".utf8) }.id == "torch.no-pickle")
    #expect(try refused { $0.members.append(.init("other/x", [])) }.id == "torch.folder")
    #expect(try refused { $0.members.append($0.members[1]) }.id == "zip.duplicate")
    #expect(try refused { $0.members.removeFirst() }.id == "torch.no-pickle")
    var tar = [UInt8](repeating: 0, count: 512)
    tar.replaceSubrange(257..<262, with: Array("ustar".utf8))
    #expect(try failure(of: { _ = try open(tar, as: "x.pt") }).id == "torch.tar")
    #expect(try failure(of: { _ = try open([1, 2, 3], as: "x.pt") }).id == "torch.unknown")
    #expect(try failure(of: { _ = try open(program, as: "x.pt") }).id == "torch.unknown")
  }

  @Test(arguments: ["parameter.pt", "dtypes_legacy.pt"]) func refusesCutFiles(name: String) throws {
    let folder = try TemporaryFolder()
    let whole = try Fixtures.bytes("torch/\(name)")
    for count in whole.indices {
      let path = try folder.write("x.pt", Array(whole[..<count]))
      #expect(throws: SurgeryError.self) { try TensorFile(opening: path) }
    }
    let path = try folder.write("x.pt", whole + [0])
    #expect(throws: SurgeryError.self) { try TensorFile(opening: path) }
  }
}
