import Tensors
import Testing

@testable import Checkpoints

/// What a pickle may not say, rule by rule.
@Suite struct TorchRefusalTests {
  private func refused(
    _ value: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> SurgeryError {
    try failure(
      of: { _ = try open(torchArchive(Pickle.program(value)).bytes, as: "x.pt") },
      sourceLocation: sourceLocation)
  }

  private func refused(
    tensor: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> SurgeryError {
    try refused(Pickle.dictionary([("w", tensor)]), sourceLocation: sourceLocation)
  }

  @Test(arguments: [
    ("posix", "system"), ("os", "system"), ("builtins", "eval"), ("__builtin__", "eval"),
    ("builtins", "getattr"), ("torch.serialization", "load"), ("runpy", "run_path"),
    ("os", "OrderedDict"), ("collections", "Counter"), ("torch", "load"), ("torch.hub", "load"),
    ("torch.nn", "FloatStorage"), ("torch", "untyped"), ("torch._utils", "_rebuild_tensor"),
    ("os.posix", "system"), ("", ""),
  ])
  func refusesGlobalsByName(module: String, name: String) throws {
    let call = Pickle.global(module, name) + Pickle.tuple([Pickle.text("id")]) + Pickle.reduce
    let error = try refused(call)
    #expect(error.id == "pickle.not-allowed" && error.kind == .data)
    #expect(error.what.contains("\(module).\(name)") && error.what.contains("not allowed"))
    #expect(error.what.contains("nothing was executed"))
    // The second member's data begin after its header; the opcode is the pickle's third byte.
    #expect(error.what.contains("byte 2 of data.pkl") && error.offset == 30 + 16 + 2)
    let hidden = Pickle.text(module) + Pickle.text(name) + [0x93]
    #expect(try refused([0x80, 4] + hidden).id == "pickle.not-allowed")
  }

  @Test func refusesOpcodes() throws {
    for opcode in Array("PioILFSVgpldBC".utf8) + [0x82, 0x83, 0x84] {
      #expect(try refused([opcode]).id == "pickle.not-allowed")
    }
    for opcode: UInt8 in [0xFF, 0, 0x7F] { #expect(try refused([opcode]).id == "pickle.opcode") }
    let list = Pickle.list([])
    #expect(try refused(list + Pickle.empty + Pickle.reduce).id == "pickle.not-allowed")
    #expect(
      try refused(Pickle.global("torch", "Size") + Pickle.empty + [0x81]).id == "pickle.not-allowed"
    )
    #expect(
      try refused(Pickle.dictionary([]) + Pickle.dictionary([]) + [0x62]).id == "pickle.not-allowed"
    )
    let float = Pickle.global("torch", "float32")
    #expect(try refused(float + Pickle.empty + Pickle.reduce).id == "pickle.not-allowed")
  }

  @Test func refusesNewProtocols() throws {
    for opcode: UInt8 in [0x8E, 0x8F, 0x90, 0x92, 0x96] {
      let error = try refused([0x80, 4, opcode])
      #expect(error.id == "pickle.protocol" && error.kind == .unsupported)
    }
    let error = try failure(of: {
      _ = try TensorFile(opening: Fixtures.path("torch/protocol4.pt"))
    })
    #expect(error.id == "pickle.protocol" && error.kind == .unsupported)
    #expect(try refused([0x95] + bytes(UInt64.max)).id == "pickle.truncated")
  }

  @Test func refusesBrokenStacks() throws {
    #expect(try refused([]).id == "pickle.stack")
    #expect(try refused(Pickle.reduce).id == "pickle.stack")
    #expect(try refused(Array("t".utf8)).id == "pickle.stack")
    #expect(try refused(Array("NN".utf8)).id == "pickle.stack")
    #expect(try refused(Array("N(0".utf8)).id == "pickle.stack")
    #expect(try refused([0x4E, 0x86]).id == "pickle.stack")
    #expect(try refused(Array("}(Nu".utf8)).id == "pickle.stack")
    #expect(try refused(Array("h\u{5}".utf8)).id == "pickle.memo")
    #expect(try refused(Array("}Na".utf8)).id == "pickle.type")
    #expect(try refused(Array("]NNs".utf8)).id == "pickle.type")
    #expect(try refused(Array("}]Ns".utf8)).id == "pickle.key")
    #expect(try refused([0x58] + bytes(UInt32(1)) + [0xFF]).id == "pickle.utf8")
    #expect(try refused([0x58] + bytes(UInt32.max)).id == "pickle.truncated")
    #expect(
      try refused(Array("c".utf8) + [UInt8](repeating: 0x61, count: 2000)).id == "pickle.name")
    let program = Pickle.program(Pickle.dictionary([]))
    let trailing = torchArchive(program + [0x4E]).bytes
    #expect(try failure(of: { _ = try open(trailing, as: "x.pt") }).id == "pickle.trailing")
    let cut = torchArchive(Array(program.dropLast())).bytes
    #expect(try failure(of: { _ = try open(cut, as: "x.pt") }).id == "pickle.truncated")
    let none = torchArchive([]).bytes
    #expect(try failure(of: { _ = try open(none, as: "x.pt") }).id == "pickle.truncated")
  }

  @Test func boundsTheWalk() throws {
    // A list in itself, a dictionary in itself.
    #expect(try refused(Array("]q\0h\0a".utf8)).id == "pickle.cycle")
    #expect(try refused(Array("}q\0Nh\0s".utf8)).id == "torch.key")
    #expect(
      try refused(Array("}q\0".utf8) + Pickle.text("a") + Array("h\0s".utf8)).id == "pickle.cycle")
    // 60 lists, each twice in the next.
    var doubled = Array("]q\00".utf8)
    for level in 1...60 as ClosedRange<UInt8> {
      doubled += [0x5D, 0x71, level, 0x68, level - 1, 0x61, 0x68, level - 1, 0x61, 0x30]
    }
    doubled += [0x68, 60]
    #expect(try refused(doubled).id == "pickle.nodes")
    let deep = [UInt8](repeating: 0x5D, count: 100_000) + [UInt8](repeating: 0x61, count: 99_999)
    #expect(try refused(deep).id == "pickle.depth")
    let tuples = [0x29] + [UInt8](repeating: 0x85, count: 100_000)
    #expect(try refused(tuples).id == "pickle.depth")
    // One long key at every level, and many tensors below.
    var long = Pickle.text(String(repeating: "k", count: 100_000)) + Array("q\00".utf8)
    long += Pickle.tensor() + Array("q\u{1}0".utf8)
    for _ in 0..<90 { long += Array("}h\0".utf8) }
    long += Array("}(".utf8)
    for index in 0..<3000 { long += Pickle.text("\(index)") + Array("h\u{1}".utf8) }
    long += Array("u".utf8) + [UInt8](repeating: 0x73, count: 90)
    #expect(try refused(long).id == "pickle.names")
  }

  @Test func refusesDoubledNames() throws {
    let tensor = Pickle.tensor()
    #expect(
      try refused(Pickle.dictionary([("a", tensor), ("a", tensor)])).id == "pickle.duplicate")
    let dotted = Pickle.dictionary([
      ("a.b", tensor), ("a", Pickle.dictionary([("b", tensor)])),
    ])
    #expect(try refused(dotted).id == "torch.duplicate")
    let spellings = Pickle.dictionary([("é", tensor), ("e\u{301}", tensor)])
    #expect(try open(torchArchive(Pickle.program(spellings)).bytes, as: "x.pt").tensors.count == 2)
  }

  @Test func refusesCheckpointsWithoutTensors() throws {
    #expect(try refused(Pickle.integer(7)).what.contains("no tensors"))
    #expect(try refused(Pickle.text("weights")).id == "torch.no-tensors")
    #expect(try refused(Pickle.dictionary([("a", Pickle.integer(1))])).id == "torch.no-tensors")
    #expect(try refused(tensor: Pickle.orderedDict).id == "torch.value")
  }

  @Test func checksStorages() throws {
    #expect(try refused(tensor: Pickle.tensor(Pickle.storage(count: 5))).id == "torch.storage-size")
    #expect(
      try refused(tensor: Pickle.tensor(Pickle.storage(count: 1 << 62))).id == "torch.storage-size")
    #expect(try refused(tensor: Pickle.tensor(Pickle.storage(count: -4))).id == "pickle.storage")
    for key in ["1", "", "../data.pkl", "../../etc/passwd", "0/"] {
      #expect(try refused(tensor: Pickle.tensor(Pickle.storage(key: key))).id == "torch.no-storage")
    }
    let both = Pickle.dictionary([
      ("a", Pickle.tensor()), ("b", Pickle.tensor(Pickle.storage(count: 1 << 40))),
    ])
    #expect(try refused(both).id == "torch.storage-size")
    let complex = Pickle.tensor(Pickle.storage("ComplexDoubleStorage", count: 1))
    #expect(try refused(tensor: complex).kind == .unsupported)
    #expect(
      try refused(tensor: Pickle.tensor(Pickle.storage("UntypedStorage", count: 16))).id
        == "torch.dtype")
    #expect(try refused(Pickle.text("storage") + [0x51]).id == "pickle.storage")
    #expect(
      try refused(Pickle.tuple([Pickle.text("storage"), [0x4E]]) + [0x51]).id == "pickle.storage")
  }

  @Test func checksViews() throws {
    func view(_ size: [Int], _ stride: [Int], _ offset: Int = 0) throws -> SurgeryError {
      try refused(tensor: Pickle.tensor(offset: offset, size: size, stride: stride))
    }
    let beyond = try view([3, 2], [2, 1])
    #expect(beyond.id == "torch.view" && beyond.tensor == "w" && beyond.what.contains("storage"))
    #expect(try view([2, 2], [1_000_000, 1]).id == "torch.view")
    #expect(try view([2, 2], [-2, 1], 2).id == "torch.stride")
    #expect(try view([2, -2], [2, 1]).id == "torch.size")
    #expect(try view([2, 2], [2, 1], 1 << 62).id == "torch.view")
    #expect(try view([2, 2], [2, 1], -1).id == "torch.view")
    #expect(try view([2, 2], [1 << 62, 1 << 62]).id == "torch.view")
    #expect(try view([3, 2], [1 << 62, 1]).id == "torch.view")
    #expect(try view([2], [2, 1]).id == "torch.stride")
    #expect(try view([0], [1], 5).id == "torch.view")
    #expect(try view([1 << 32, 1 << 32], [0, 0]).id == "torch.overflow")
    #expect(try view([1 << 40], [0]).id == "torch.expanded")
    let ones = [Int](repeating: 1, count: 65)
    #expect(try view(ones, ones).id == "torch.rank")
    let odd = try open(
      torchArchive(
        Pickle.program(
          Pickle.dictionary([("w", Pickle.tensor(size: [1, 4], stride: [1 << 60, 1]))]))
      ).bytes, as: "x.pt")
    #expect(try odd.tensors[0].bytes() == Array(0..<16))
  }

  @Test func checksArguments() throws {
    #expect(try refused(tensor: Pickle.call("_rebuild_tensor_v2", [])).id == "pickle.arguments")
    let number = Pickle.tensor(Pickle.integer(1))
    #expect(try refused(tensor: number).id == "pickle.arguments")
    let text = Pickle.call(
      "_rebuild_tensor_v2",
      [
        Pickle.storage(), Pickle.integer(0), Pickle.tuple([Pickle.text("2")]), Pickle.tuple([1]),
        [0x89], [0x4E],
      ])
    #expect(try refused(tensor: text).id == "torch.size")
    let conjugated = Pickle.call(
      "_rebuild_tensor_v2",
      [
        Pickle.storage(), Pickle.integer(0), Pickle.tuple([1]), Pickle.tuple([1]), [0x89], [0x4E],
        Pickle.dictionary([("conj", [0x88])]),
      ])
    #expect(try refused(tensor: conjugated).id == "torch.state")
  }

  /// Calls that torch never writes: `OrderedDict(1)`, `torch.Size(1)`, a parameter of a number, a dtype that is text.
  @Test func checksArgumentsOfOtherCalls() throws {
    let tensor = [
      Pickle.storage(), Pickle.integer(0), Pickle.tuple([1]), Pickle.tuple([1]), [0x89], [0x4E],
    ]
    let calls = [
      Pickle.orderedDict + Pickle.tuple([1]) + Pickle.reduce,
      Pickle.global("torch", "Size") + Pickle.tuple([1]) + Pickle.reduce,
      Pickle.call("_rebuild_parameter", [Pickle.integer(1), [0x89]]),
      Pickle.call("_rebuild_tensor_v3", tensor + [Pickle.text("float32")]),
      Pickle.call("_rebuild_tensor_v2", tensor + [Pickle.integer(1)]),
    ]
    for call in calls {
      let error = try refused(tensor: call)
      #expect(error.id == "pickle.arguments" && error.kind == .data, "\(error)")
      #expect(error.file != nil && error.offset != nil)
    }
  }

  /// `OrderedDict` made from and given what torch never writes there.
  @Test func checksOrderedDictionaries() throws {
    let empty = Pickle.orderedDict + Pickle.empty + Pickle.reduce
    let build = try refused(empty + Pickle.integer(1) + [UInt8(ascii: "b")])
    #expect(build.id == "pickle.type" && build.what.contains("attributes of an OrderedDict"))
    for element in [Pickle.integer(1), Pickle.tuple([1]), Pickle.list([[0x4E], [0x4E], [0x4E]])] {
      let pairs = Pickle.orderedDict + Pickle.tuple([Pickle.list([element])]) + Pickle.reduce
      let error = try refused(pairs)
      #expect(error.id == "pickle.type" && error.kind == .data && error.file != nil)
      #expect(error.what.contains("something else than pairs"))
    }
  }

  /// Elements of which nobody knows the size, under a tensor that gives itself a dtype.
  @Test func checksTheTypeOfTheStorage() throws {
    let tensor = Pickle.call(
      "_rebuild_tensor_v3",
      [
        Pickle.storage("QUInt4x2Storage"), Pickle.integer(0), Pickle.tuple([1]),
        Pickle.tuple([1]), [0x89], [0x4E], Pickle.global("torch", "float32"),
      ])
    let error = try refused(tensor: tensor)
    #expect(error.id == "torch.dtype" && error.kind == .unsupported && error.tensor == "w")
    #expect(error.found == "quint4x2" && error.what.contains("storages"))
  }

  /// Reading such a view would inflate the storage once for every row.
  @Test func expandedViewsOfCompressedStoragesAreNotRead() throws {
    let view = Pickle.tensor(size: [3, 2], stride: [0, 1])
    var zip = torchArchive(Pickle.program(Pickle.dictionary([("w", view)])))
    #expect(try open(zip.bytes, as: "x.pt").tensors[0].bytes().count == 24)
    zip.members[1] = try .deflated("archive/data/0", Array(0..<16))
    let error = try failure(of: { _ = try open(zip.bytes, as: "x.pt") })
    #expect(error.id == "torch.compressed-view" && error.kind == .unsupported)
    #expect(error.tensor == "w" && error.file != nil && error.hint == "torch.save it again")
  }

  @Test func viewsOfStoragesAreNotRead() throws {
    let view =
      Pickle.tuple([
        Pickle.text("storage"), Pickle.global("torch", "FloatStorage"), Pickle.text("0"),
        Pickle.text("cpu"), Pickle.integer(4), Pickle.tuple([1, 2]),
      ]) + [UInt8(ascii: "Q")]
    let error = try refused(tensor: Pickle.tensor(view))
    #expect(error.id == "torch.storage-view" && error.kind == .unsupported)
    #expect(error.hint?.contains("newer torch") == true)
  }

  /// A file of torch before 1.6, some of its five pickles replaced.
  private func legacy(
    version: Int = 1001, system: [UInt8] = Pickle.dictionary([("little_endian", [0x88])]),
    storage: [UInt8] = Pickle.storage(), keys: [UInt8] = Pickle.list([Pickle.text("0")]),
    data: [UInt8] = bytes(4) + Array(0..<16), protocol number: UInt8 = 2
  ) -> [UInt8] {
    let magic: [UInt8] = [
      0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E,
    ]
    let frame: [UInt8] = number < 4 ? [] : [0x95] + bytes(magic.count)
    let object = Pickle.dictionary([("w", Pickle.tensor(storage))])
    let parts: [[UInt8]] = [
      [0x80, number], frame, magic, Pickle.program(Pickle.integer(version)),
      Pickle.program(system), Pickle.program(object), Pickle.program(keys), data,
    ]
    return parts.flatMap { $0 }
  }

  @Test func legacyFilesSayWhatIsWrongWithThem() throws {
    #expect(try open(legacy(), as: "x.pt").tensors[0].bytes() == Array(0..<16))
    let cases: [(String, SurgeryError.Kind, [UInt8])] = [
      ("pickle.protocol", .unsupported, legacy(protocol: 4)),
      ("torch.version", .unsupported, legacy(version: 1000)),
      ("torch.byteorder", .data, legacy(system: Pickle.dictionary([]))),
      ("torch.keys", .data, legacy(keys: Pickle.integer(0))),
      ("torch.keys", .data, legacy(keys: Pickle.list([Pickle.integer(0)]))),
      ("torch.keys", .data, legacy(keys: Pickle.list([Pickle.text("0"), Pickle.text("0")]))),
      ("torch.keys", .data, legacy(keys: Pickle.list([Pickle.text("1")]))),
      ("torch.dtype", .unsupported, legacy(storage: Pickle.storage("QUInt4x2Storage"))),
      ("torch.no-storage", .data, legacy(keys: Pickle.list([]), data: [])),
      ("torch.truncated", .data, legacy(data: bytes(4) + Array(0..<15))),
      ("torch.truncated", .data, legacy(data: bytes(-1) + Array(0..<16))),
      ("torch.truncated", .data, legacy(data: [4, 0, 0])),
      ("torch.trailing", .data, legacy(data: bytes(4) + Array(0...16))),
    ]
    for (id, kind, image) in cases {
      let error = try failure(of: { _ = try open(image, as: "x.pt") })
      #expect(error.id == id && error.kind == kind, "\(error)")
      #expect(error.file != nil)
    }
  }

  /// Programs of known opcodes in random order end in a value or an error, never in a trap.
  @Test func survivesRandomPrograms() {
    let opcodes: [UInt8] =
      Array("NKMJGXU)]}(t012qrhjaesucRbQ.".utf8)
      + [0x80, 0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x93, 0x94, 0x95]
    let fragments = [
      Pickle.text("a"), Pickle.integer(3), Pickle.storage(), Pickle.tensor(), Pickle.orderedDict,
      Pickle.tuple([1, 2]), Pickle.dictionary([]), Pickle.empty, Pickle.text("storage"),
    ]
    var random = SeededGenerator(state: 11)
    var finished = 0
    for _ in 0..<10_000 {
      var program: [UInt8] = [0x80, 2]
      for _ in 0..<Int.random(in: 1...60, using: &random) {
        switch Int.random(in: 0...9, using: &random) {
        case 0...3: program += fragments.randomElement(using: &random) ?? []
        case 4: program.append(UInt8.random(in: 0...255, using: &random))
        default: program.append(opcodes.randomElement(using: &random) ?? 0)
        }
      }
      program.append(UInt8(ascii: "."))
      do throws(SurgeryError) {
        var machine = PickleMachine(PickleInput(program))
        let value = try machine.run()
        _ = try TorchFlattening(
          value, heap: machine.heap, pickleSize: program.count, soleName: "x")
        finished += 1
      } catch {
        #expect(error.kind == .data || error.kind == .unsupported, "\(error)")
      }
    }
    #expect(finished > 0)
  }
}
