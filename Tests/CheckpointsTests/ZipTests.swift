import Tensors
import Testing

@testable import Checkpoints

/// The rules of the zip reader, each broken by one field; the archive holds npy arrays, so that npz opens it.
@Suite struct ZipTests {
  private static let array = npy(npyHeader("|u1", "(5,)"), data: [1, 2, 3, 4, 5])

  private func refused(
    _ change: (inout ZipBuilder) throws -> Void, sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> SurgeryError {
    var zip = ZipBuilder([.init("a.npy", Self.array), .init("b.npy", Self.array)])
    try change(&zip)
    return try failure(
      of: {
        let file = try open(zip.bytes, as: "x.npz")
        for tensor in file.tensors { _ = try tensor.bytes() }
      }, sourceLocation: sourceLocation)
  }

  @Test func readsStoredAndDeflated() throws {
    var zip = ZipBuilder([.init("a.npy", Self.array), try .deflated("d/b.npy", Self.array)])
    zip.members[1].gap = 9
    zip.comment = Array("made by hand".utf8)
    let file = try open(zip.bytes, as: "x.npz")
    #expect(file.tensors.map(\.name) == ["a", "d/b"])
    for tensor in file.tensors { #expect(try tensor.bytes() == [1, 2, 3, 4, 5]) }
    #expect(file.metadata.isEmpty && file.warnings.isEmpty)
    #expect(try open(ZipBuilder([]).bytes, as: "x.npz").tensors.isEmpty)
  }

  @Test func refusesPrefixesAndDoubtfulEnds() throws {
    #expect(try refused { $0.prefix = Array("#!/bin/sh\n".utf8) }.id == "zip.magic")
    #expect(try refused { $0.trailing = [0] }.id == "zip.truncated")
    #expect(try refused { $0.comment = ZipBuilder([]).bytes }.id == "zip.ambiguous")
    #expect(try refused { $0.disk = 1 }.id == "zip.disks")
    #expect(try refused { $0.count = 1 }.id == "zip.count")
    #expect(try refused { $0.count = 3 }.id == "zip.count")
    #expect(try refused { $0.directoryOffset = 5 }.id == "zip.directory")
    #expect(try refused { $0.directoryOffset = .max }.id == "zip.zip64")
    #expect(try refused { $0.beforeEnd = [0] }.id == "zip.directory")
  }

  @Test(arguments: [
    "", "/a.npy", "../a.npy", "a/../b.npy", "a/./b.npy", "a//b.npy", "a/", "C:\\a.npy", "C:a.npy",
    "a\\b.npy", "a\0.npy", "a\u{1B}[2J.npy",
  ])
  func refusesUnsafeNames(name: String) throws {
    #expect(try refused { $0.members[0].name = Array(name.utf8) }.id == "zip.name")
  }

  @Test func decodesNamesAsFlagged() throws {
    var zip = ZipBuilder([.init("日本.npy", Self.array), .init("?.npy", Self.array)])
    zip.members[0].flags = 0x800
    zip.members[1].name = [0x81, 0xE1] + Array(".npy".utf8)
    #expect(try open(zip.bytes, as: "x.npz").tensors.map(\.name) == ["日本", "üß"])
    let error = try refused {
      $0.members[0].name = [0xFF]
      $0.members[0].flags = 0x800
    }
    #expect(error.id == "zip.name")
  }

  @Test func refusesDoubledNames() throws {
    let same = try refused { $0.members[1].name = Array("a.npy".utf8) }
    #expect(same.id == "zip.duplicate" && same.what.contains("duplicate"))
    #expect(try refused { $0.members[1].name = Array("a".utf8) }.id == "npz.duplicate")
  }

  @Test func refusesWhatItCannotDecode() throws {
    for flag: UInt16 in [1, 1 << 6, 1 << 13] {
      let error = try refused { $0.members[0].flags = flag }
      #expect(error.id == "zip.encrypted" && error.kind == .unsupported)
    }
    #expect(try refused { $0.members[0].flags = 1 << 5 }.id == "zip.patched")
    let method = try refused { $0.members[0].method = 12 }
    #expect(method.id == "zip.method" && method.found == "method 12 (bzip2)")
    #expect(try refused { $0.members[0].mode = 0o120_777 }.id == "zip.link")
  }

  @Test func comparesBothHeaders() throws {
    #expect(try refused { $0.members[0].localName = Array("b.npy".utf8) }.id == "zip.local-header")
    #expect(try refused { $0.members[0].localCRC = 1 }.id == "zip.local-header")
    #expect(try refused { $0.members[0].localSize = 1 }.id == "zip.local-header")
    #expect(try refused { $0.members[1].offset = 3 }.id == "zip.local-header")
    #expect(try refused { $0.members[1].offset = 1 << 31 }.id == "zip.range")
    #expect(try refused { $0.members[1].packedSize = 1 << 30 }.id == "zip.size")
    let beyond = try refused {
      $0.members[1].size = 1 << 30
      $0.members[1].packedSize = 1 << 30
    }
    #expect(beyond.id == "zip.range")
  }

  @Test func readsDescriptorsInFourSpellings() throws {
    let crc = CRC32.of(Self.array)
    let size = Self.array.count
    let narrow = bytes(crc) + bytes(UInt32(size)) + bytes(UInt32(size))
    let wide = bytes(crc) + bytes(UInt64(size)) + bytes(UInt64(size))
    for signature in [[], [0x50, 0x4B, 7, 8]] as [[UInt8]] {
      for body in [narrow, wide] {
        var zip = ZipBuilder([.init("a.npy", Self.array), .init("b.npy", Self.array)])
        zip.members[0].flags = 8
        zip.members[0].localCRC = 0
        zip.members[0].localSize = 0
        zip.members[0].descriptor = signature + body
        #expect(try open(zip.bytes, as: "x.npz").tensors.count == 2)
        zip.members[0].descriptor[signature.count] ^= 1
        #expect(
          try failure(of: { _ = try open(zip.bytes, as: "x.npz") }).id == "zip.descriptor")
      }
    }
  }

  @Test func refusesOverlaps() throws {
    let error = try refused {
      $0.members[1].name = $0.members[0].name
      $0.members[1].data = $0.members[0].data
      $0.members[1].offset = 0
    }
    #expect(error.id == "zip.duplicate")
    // The second member is quoted inside the data of the first (Fifield 2019).
    let inner = ZipBuilder([.init("b.npy", Self.array)]).bytes
    let local = Array(inner[..<(30 + 5 + Self.array.count)])
    var zip = ZipBuilder([.init("a.npy", local), .init("b.npy", Self.array)])
    zip.members[1].offset = 35
    #expect(try failure(of: { _ = try open(zip.bytes, as: "x.npz") }).id == "zip.overlap")
  }

  @Test func checksExtraFields() throws {
    #expect(try refused { $0.members[0].extra = [9, 9, 200, 0, 1] }.id == "zip.extra")
    #expect(try refused { $0.members[0].extra = [9] }.id == "zip.extra")
    #expect(try refused { $0.members[0].localExtra = [9, 9, 200, 0] }.id == "zip.extra")
    let missing = try refused {
      $0.members[0].size = 0xFFFF_FFFF
      $0.members[0].packedSize = 0xFFFF_FFFF
    }
    #expect(missing.id == "zip.zip64")
    var zip = ZipBuilder([.init("a.npy", Self.array)])
    zip.members[0].size = 0xFFFF_FFFF
    zip.members[0].packedSize = 0xFFFF_FFFF
    let wide = bytes(UInt64(Self.array.count))
    zip.members[0].extra = [1, 0, 16, 0] + wide + wide
    zip.members[0].localExtra = [7, 7, 1, 0, 0] + zip.members[0].extra
    #expect(try open(zip.bytes, as: "x.npz").tensors[0].bytes() == [1, 2, 3, 4, 5])
    zip.members[0].extra += zip.members[0].extra
    let twice = try failure(of: { _ = try open(zip.bytes, as: "x.npz") })
    #expect(twice.id == "zip.zip64" && twice.what.contains("a.npy") && twice.offset != nil)
    #expect(twice.what.contains("two zip64 fields"))
    zip.members[0].extra = [1, 0, 8, 0] + wide
    #expect(try failure(of: { _ = try open(zip.bytes, as: "x.npz") }).id == "zip.zip64")
  }

  @Test func followsTheZip64EndRecord() throws {
    var zip = ZipBuilder([.init("a.npy", Self.array)])
    let plain = zip.bytes
    let start = UInt64(30 + 5 + Self.array.count)
    let size = UInt64(plain.count - 22) - start
    func end(_ count: UInt64, _ size: UInt64, _ offset: UInt64, locator: UInt64) -> [UInt8] {
      [0x50, 0x4B, 6, 6] + bytes(UInt64(44)) + [45, 0, 45, 0] + [UInt8](repeating: 0, count: 8)
        + bytes(count) + bytes(count) + bytes(size) + bytes(offset)
        + [0x50, 0x4B, 6, 7, 0, 0, 0, 0] + bytes(locator) + bytes(UInt32(1))
    }
    zip.beforeEnd = end(1, size, start, locator: start + size)
    #expect(try open(zip.bytes, as: "x.npz").tensors.count == 1)
    zip.directoryOffset = .max
    #expect(try open(zip.bytes, as: "x.npz").tensors.count == 1)
    let wrong: [[UInt8]] = [
      end(2, size, start, locator: start + size), end(1, .max, start, locator: start + size),
      end(.max, size, start, locator: start + size), end(1, size, .max, locator: start + size),
      end(1, size, start, locator: 1 << 63), end(1, size, start, locator: 0),
      end(1, size, start, locator: start + size + 1),
    ]
    for record in wrong {
      zip.beforeEnd = record
      #expect(throws: SurgeryError.self) { try open(zip.bytes, as: "x.npz") }
    }
  }

  @Test func checksWholeMembers() throws {
    let crc = try refused { $0.members[0].crc = 7 }
    #expect(crc.id == "zip.crc" && crc.what.contains("a.npy"))
    let zero = try refused { $0.members[0].crc = 0 }
    #expect(zero.id == "zip.crc")
    let member = try ZipBuilder.Member.deflated("a.npy", Self.array)
    let packed = try #require(member.packed)
    func deflated(_ change: (inout ZipBuilder.Member) -> Void) throws -> SurgeryError {
      try refused {
        $0.members[0] = member
        change(&$0.members[0])
      }
    }
    #expect(try deflated { $0.crc = 7 }.id == "zip.crc")
    #expect(try deflated { $0.packed = packed + [0] }.id == "zip.deflate")
    #expect(try deflated { $0.packed = packed.dropLast(2) }.id == "zip.deflate")
    #expect(try deflated { $0.packed = [0xFF] + packed }.id == "zip.deflate")
  }

  @Test func stopsAtTheDeclaredSize() throws {
    let long = npy(npyHeader("|u1", "(5,)"), data: [UInt8](repeating: 0, count: 1 << 20))
    var member = try ZipBuilder.Member.deflated("a.npy", long)
    member.size = UInt64(Self.array.count)
    let file = try open(ZipBuilder([member]).bytes, as: "x.npz")
    #expect(try failure(of: { _ = try file.tensors[0].bytes() }).id == "zip.size")
    member.size = UInt64(long.count + 1)
    #expect(throws: SurgeryError.self) {
      try open(ZipBuilder([member]).bytes, as: "x.npz").tensors[0].bytes()
    }
  }

  @Test func limitsWhatIsInflated() throws {
    let zip = ZipBuilder([try .deflated("a.npy", Self.array)])
    let folder = try TemporaryFolder()
    let path = try folder.write("x.npz", zip.bytes)
    let limits = ReadLimits(inflatedBytes: UInt64(Self.array.count) - 1)
    let error = try failure(of: { _ = try TensorFile(opening: path, limits: limits) })
    #expect(error.id == "zip.max-inflate" && error.hint?.contains("--max-inflate") == true)
    #expect(
      try Checkpoint(
        opening: path, limits: ReadLimits(inflatedBytes: UInt64(Self.array.count))
      ).tensors.count == 1)
    #expect(ReadLimits().inflatedBytes(ofArchive: 100) == 512 << 20)
    #expect(ReadLimits().inflatedBytes(ofArchive: 1 << 40) == 1 << 46)
    #expect(ReadLimits().inflatedBytes(ofArchive: .max) == .max)
  }

  @Test(arguments: [false, true]) func readsPartsInAnyOrder(isDeflated: Bool) throws {
    let data = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    let array = npy(npyHeader("|u1", "(200000,)"), data: data)
    var member = isDeflated ? try ZipBuilder.Member.deflated("a", array) : .init("a", array)
    let tensor = try open(ZipBuilder([member]).bytes, as: "x.npz").tensors[0]
    #expect(tensor.source.isSequential == isDeflated && tensor.source.plainOffset == nil)
    var reader = try tensor.source.makeReader()
    for (offset, count) in [(0, 10), (10, 500), (1000, 70_000), (5, 9), (199_999, 1), (0, 200_000)]
    {
      let part = try [UInt8](filling: count) { target throws(SurgeryError) in
        try reader.read(at: offset, into: &target)
      }
      #expect(part == Array(data[offset..<offset + count]))
    }
    // A reader that begins in the middle gets nothing before the whole member is found right.
    member.crc = 1
    let damaged = try open(ZipBuilder([member]).bytes, as: "x.npz").tensors[0]
    var middle = try damaged.source.makeReader()
    let error = try failure(of: {
      _ = try [UInt8](filling: 1) { target throws(SurgeryError) in
        try middle.read(at: 100, into: &target)
      }
    })
    #expect(error.id == "zip.crc")
  }

  @Test func combinesChecksums() {
    let data = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }
    #expect(CRC32.of(Array("123456789".utf8)) == 0xCBF4_3926)
    for cut in [0, 1, 500, 999, 1000] {
      let (head, tail) = (Array(data[..<cut]), Array(data[cut...]))
      #expect(
        CRC32.combine(CRC32.of(head), CRC32.of(tail), secondCount: tail.count) == CRC32.of(data))
    }
  }
}
