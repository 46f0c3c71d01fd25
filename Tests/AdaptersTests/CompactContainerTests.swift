import Adapters
import LinearAlgebra
import Tensors
import Testing

@testable import Checkpoints

/// Every rule of the container, broken one by one.
struct CompactContainerTests {
  /// A small file with an exact and a quantised tensor.
  static func sample(_ workshop: CompactWorkshop) throws -> [UInt8] {
    var generator = SeededGenerator(seed: 21)
    let down = try workshop.gaussian("d", [3, 40], .bf16, &generator)
    let up = try workshop.gaussian("u", [30, 3], .bf16, &generator)
    let bias = try workshop.gaussian("b", [40], .f16, &generator)
    let scale = try workshop.gaussian("s", [30], .f32, &generator)
    let adapter = workshop.adapter([
      ("m", try LowRank(up: Factor(up), down: Factor(down)), 1),
      ("s", try DiagonalScale(Factor(scale), axis: .outputs, isOffset: false), 1),
      ("b", try RowReplacement(Factor(bias).reshaped(rows: 2, columns: 20), indices: [0, 5]), 1),
    ])
    let file = try InputFile(try workshop.write(adapter) { $0.maximumError = 0.02 })
    return try file.bytes(at: 0, count: Int(file.size))
  }

  /// Opens bytes as an adapter and reads everything.
  static func read(_ bytes: [UInt8], _ workshop: CompactWorkshop) throws {
    let path = workshop.folder.path("x.lra")
    try workshop.folder.write(bytes, to: "x.lra")
    let file = try TensorFile(opening: path)
    try CompactHeader.verify(file.file)
    let adapter = try Adapter(opening: path)
    for module in adapter.modules {
      for factor in module.update.factors { _ = try factor.bytes() }
      _ = try module.update.loaded(scale: 1, as: Float.self)
    }
  }

  private func expect(_ id: String, _ change: (inout CompactImage) throws -> Void) throws {
    let workshop = try CompactWorkshop()
    var image = try CompactImage(try Self.sample(workshop))
    try change(&image)
    try expect(id, bytes: image.sealed, workshop)
  }

  private func expect(_ id: String, bytes: [UInt8], _ workshop: CompactWorkshop) throws {
    do {
      try Self.read(bytes, workshop)
      Issue.record("\(id): the file was read")
    } catch let error as SurgeryError {
      #expect(error.id == id, "\(error)")
      #expect(error.kind == .data || error.kind == .unsupported)
    }
  }

  @Test("A file that breaks no rule is read")
  func sound() throws {
    let workshop = try CompactWorkshop()
    let bytes = try Self.sample(workshop)
    try Self.read(bytes, workshop)
    try Self.read(try CompactImage(bytes).sealed, workshop)
  }

  @Test("Unknown sections are skipped")
  func unknownSection() throws {
    let workshop = try CompactWorkshop()
    var image = try CompactImage(try Self.sample(workshop))
    try image.replace("\"tensors\":", "\"strange\":{\"a\":[1,2]},\"tensors\":")
    try Self.read(image.sealed, workshop)
  }

  @Test("The preamble")
  func preamble() throws {
    let workshop = try CompactWorkshop()
    let good = try Self.sample(workshop)
    func broken(_ offset: Int, _ value: UInt8, resealed: Bool = true) -> [UInt8] {
      var bytes = good
      bytes[offset] = value
      if resealed {
        let crc = Array(bytes[..<60]).crc32
        for index in 0..<4 {
          bytes[60 + index] = UInt8(truncatingIfNeeded: crc >> (8 * UInt32(index)))
        }
      }
      return bytes
    }
    try expect("lra.short", bytes: Array(good[..<63]), workshop)
    try expect("lra.text-mode", bytes: broken(0, 0x0B), workshop)
    var unix = good
    unix.remove(at: 4)
    try expect("lra.text-mode", bytes: unix, workshop)
    try expect("lra.version", bytes: broken(8, 2), workshop)
    try expect("lra.version", bytes: broken(8, 0), workshop)
    try expect("lra.preamble-crc", bytes: broken(20, 1, resealed: false), workshop)
    try expect("lra.flags", bytes: broken(10, 1), workshop)
    try expect("lra.reserved", bytes: broken(55, 1), workshop)
    try expect("lra.size", bytes: Array(good.dropLast()), workshop)
    try expect("lra.size", bytes: good + [0], workshop)
    try expect("lra.size", bytes: broken(47, 0xFF), workshop)
    try expect("lra.header-place", bytes: broken(16, good[16] &+ 1), workshop)
    try expect("lra.header-place", bytes: broken(23, 0xFF), workshop)
    try expect("lra.header-place", bytes: broken(31, 0xFF), workshop)
    try expect("lra.header-too-large", bytes: broken(39, 0xFF), workshop)
    try expect("lra.header-too-large", bytes: broken(34, 0x7F), workshop)
    try expect("lra.header-crc", bytes: broken(12, good[12] ^ 1), workshop)
    try expect("lra.crc", bytes: broken(48, good[48] ^ 1), workshop)
  }

  @Test("A header that does not inflate to its size")
  func headerSize() throws {
    let workshop = try CompactWorkshop()
    let good = try Self.sample(workshop)
    for change in [-1, 1] {
      var bytes = good
      let size = Int(bytes.littleEndian32(at: 32)) + change
      for index in 0..<4 { bytes[32 + index] = UInt8(truncatingIfNeeded: size >> (8 * index)) }
      let crc = Array(bytes[..<60]).crc32
      for index in 0..<4 {
        bytes[60 + index] = UInt8(truncatingIfNeeded: crc >> (8 * UInt32(index)))
      }
      try expect("lra.header-deflate", bytes: bytes, workshop)
    }
  }

  @Test("The header")
  func header() throws {
    try expect("json.syntax") { $0.header[0] = 0x28 }
    try expect("json.duplicate") { try $0.replace("\"tool\":", "\"tool\":1,\"tool\":") }
    try expect("lra.canonical") { try $0.replace("\"tool\":", " \"tool\":") }
    try expect("lra.canonical") { try $0.replace("\"tool\":", "\"zool\":1,\"tool\":") }
    try expect("lra.header") { try $0.replace("\"tensors\":", "\"tensor\":") }
    try expect("lra.requires") { try $0.replace("[\"quantised\"]", "[\"quantised\",\"time\"]") }
    try expect("lra.header") { try $0.replace("[\"quantised\"]", "[\"quantised\",1]") }
    try expect("lra.header") {
      try $0.replace("\"provenance\":", "\"metadata\":[],\"provenance\":")
    }
    try expect("lra.header") {
      try $0.replace("\"provenance\":", "\"metadata\":{\"a\":1},\"provenance\":")
    }
  }

  @Test("Tensors and their pages")
  func tensors() throws {
    try expect("lra.header") { $0.header = Array("[]".utf8) }
    try expect("lra.header") {
      try $0.replace("\"name\":\"s\",\"pages\"", "\"nape\":\"s\",\"pages\"")
    }
    try expect("lra.layout") {
      let text = String(decoding: $0.header, as: UTF8.self)
      let size = try #require(text.firstMatch(of: /"pages":\[([0-9]+)/))
      try $0.replace(String(size.0), "\"pages\":[999999999")
    }
    try expect("lra.codec") { try $0.replace("\"codec\":\"planes\"", "\"codec\":\"plums\"") }
    try expect("lra.dtype") { try $0.replace("\"dtype\":\"F16\"", "\"dtype\":\"F17\"") }
    try expect("lra.name") {
      try $0.replace("\"name\":\"s\",\"pages\"", "\"name\":\"b\",\"pages\"")
    }
    try expect("lra.shape") { try $0.replace("\"shape\":[30]", "\"shape\":[-30]") }
    try expect("lra.shape") {
      try $0.replace("\"shape\":[30]", "\"shape\":[4294967296,4294967296]")
    }
    try expect("lra.shape") { try $0.replace("\"shape\":[3,70]", "\"shape\":[3,70,1]") }
    try expect("lra.shape") { try $0.replace("\"shape\":[3,70]", "\"shape\":[3,4194305]") }
    try expect("lra.pages") { try $0.replace("\"shape\":[30]", "\"shape\":[3000000]") }
    try expect("lra.pages") { try $0.replace("\"pages\":[", "\"pages\":[7,") }
    try expect("lra.pages") { try $0.replace("\"pages\":[", "\"pages\":[1,2,") }
    try expect("lra.layout") {
      $0.body += [UInt8](repeating: 0, count: 16)
    }
    try expect("lra.page") { try $0.replace("\"shape\":[30]", "\"shape\":[31]") }
    try expect("lra.deflate") { try $0.replace("\"shape\":[3,70]", "\"shape\":[3,71]") }
    try expect("lra.page-crc") { $0.body[5] ^= 1 }
    try expect("lra.page-crc") { $0.body[$0.body.count - 20] ^= 1 }
  }

  /// What a page holds is known from its tensor, so a larger one is not read into memory first.
  @Test("A page larger than what it holds")
  func largePage() throws {
    let workshop = try CompactWorkshop()
    var image = try CompactImage(try Self.sample(workshop))
    // One byte in a page of more than a full one.
    let size = 1 << 19
    let list =
      #"[{"codec":"planes","dtype":"U8","name":"x","pages":[\#(size),0],"shape":[1]}]"#
    let tensors = try JSONValue(parsing: Array(list.utf8))
    let members = try image.json.members ?? []
    image.header = Array(
      JSONValue.object(members.map { $0.key == "tensors" ? .init("tensors", tensors) : $0 }).text()
        .utf8)
    image.body = [UInt8](repeating: 0, count: size)
    try workshop.folder.write(image.sealed, to: "large.lra")
    let path = workshop.folder.path("large.lra")
    let error = #expect(throws: SurgeryError.self) { _ = try TensorFile(opening: path) }
    #expect(error?.id == "lra.pages" && error?.kind == .data, "\(String(describing: error))")
    #expect(error?.file == path && error?.tensor == "x" && error?.found == "\(size)")
    #expect(error?.what.contains("larger than what it holds") == true)
  }

  @Test("Tensors that would expand beyond measure")
  func expansion() throws {
    let workshop = try CompactWorkshop()
    var image = try CompactImage(try Self.sample(workshop))
    let pages = (0..<5000).map { _ in "16,0" }.joined(separator: ",")
    let json = try image.json
    let list = try JSONValue(parsing: Array("[\(pages)]".utf8))
    image.header = Array(
      JSONValue.object(
        (json.members ?? []).map { member in
          member.key == "tensors"
            ? .init(
              "tensors",
              .array([
                .object([
                  .init("codec", .string("planes")), .init("dtype", .string("F64")),
                  .init("name", .string("x")),
                  .init("pages", list),
                  .init("shape", .array([.integer(5000 << 18)])),
                ])
              ])) : member
        }
      ).text().utf8)
    image.body = [UInt8](repeating: 0, count: 16 * 5000)
    try expect("lra.expansion", bytes: image.sealed, workshop)
  }

  @Test("The description of the adapter")
  func description() throws {
    try expect("lra.unknown") { try $0.replace("\"kind\":\"low-rank\"", "\"kind\":\"high-rank\"") }
    try expect("lra.unknown") { try $0.replace("[\"transpose\"]", "[\"transform\",1,1]") }
    try expect("lra.adapter") { try $0.replace("[\"columns\",0,30]", "[\"columns\",0,300]") }
    try expect("lra.adapter") { try $0.replace("[\"columns\",0,30]", "[\"columns\",30,0]") }
    try expect("lra.adapter") { try $0.replace("[\"columns\",0,30]", "[\"columns\",-1,30]") }
    try expect("lra.adapter") {
      try $0.replace("[\"reshape\",2,20]", "[\"reshape\",2,2000000000]")
    }
    try expect("lra.adapter") {
      try $0.replace("[\"reshape\",2,20]", "[\"reshape\",9223372036854775807,20]")
    }
    try expect("lra.adapter") {
      try $0.replace("[\"reshape\",2,20]", "[\"reshape\",2147483647,2147483647]")
    }
    try expect("lra.adapter") { try $0.replace("\"tensor\":0", "\"tensor\":99") }
    try expect("lra.adapter") { try $0.replace("\"modules\":[", "\"modules\":[1,") }
    try expect("lra.adapter") { try $0.replace("\"scale\":1", "\"scale\":\"1\"") }
    try expect("lra.adapter") { try $0.replace("\"offset\":false", "\"offset\":0") }
    try expect("adapter.shape") { try $0.replace("\"indices\":[0,5]", "\"indices\":[0]") }
    try expect("lra.adapter") { try $0.replace("\"indices\":[0,5]", "\"indices\":[0,-5]") }
  }

  @Test("Dimensions that cost nothing to claim are not believed")
  func claims() throws {
    // A tensor without elements takes no bytes, so its other dimension may be anything.
    let module =
      #"{"name":"m","scale":1,"target":{"module":"m","parameter":"weight"},"update":"#
      + #"{"down":{"tensor":0},"kind":"low-rank","up":{"tensor":0,"view":[["transpose"]]}}}"#
    try expect("adapter.shape") { image in
      image.body = []
      image.header = Array(
        (#"{"adapter":{"modules":["# + module + #"],"replacements":[]},"requires":[],"tensors":"#
          + #"[{"codec":"planes","dtype":"F32","name":"x","pages":[],"shape":[0,4611686018427387904]}]}"#)
          .utf8)
    }
  }
}

/// Damage at random: no mutant may do more than throw.
struct CompactMutationTests {
  @Test("Damaged bytes under checksums that agree", arguments: 0..<4)
  func mutants(_ seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let workshop = try CompactWorkshop()
    let good = try CompactImage(try CompactContainerTests.sample(workshop))
    for _ in 0..<150 {
      var image = good
      if Bool.random(using: &generator) {
        // Pages: their checksums in the header are made to agree, so that decoders meet the damage.
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
          let index = Int.random(in: image.body.indices, using: &generator)
          image.body[index] = UInt8.random(in: 0...255, using: &generator)
        }
        image.header = try Self.resealed(image)
      } else {
        for _ in 0..<Int.random(in: 1...2, using: &generator) {
          Self.mutate(&image.header, &generator)
        }
      }
      do {
        try CompactContainerTests.read(image.sealed, workshop)
      } catch is SurgeryError {}
    }
  }

  @Test("Damaged bytes as they are")
  func raw() throws {
    var generator = SeededGenerator(seed: 77)
    let workshop = try CompactWorkshop()
    let good = try CompactContainerTests.sample(workshop)
    for _ in 0..<150 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...3, using: &generator) { Self.mutate(&bytes, &generator) }
      #expect(throws: SurgeryError.self) {
        if bytes == good { throw SurgeryError(.data, "same", "no mutant") }
        try CompactContainerTests.read(bytes, workshop)
      }
    }
  }

  @Test("A file cut anywhere is refused")
  func cut() throws {
    let workshop = try CompactWorkshop()
    let good = try CompactContainerTests.sample(workshop)
    for count in stride(from: 0, to: good.count, by: 7) {
      #expect(throws: SurgeryError.self) {
        try CompactContainerTests.read(Array(good[..<count]), workshop)
      }
    }
  }

  private static func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
    let index = Int.random(in: bytes.indices, using: &generator)
    switch Int.random(in: 0..<5, using: &generator) {
    case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
    case 1: bytes[index] = UInt8.random(in: 0...255, using: &generator)
    case 2: bytes.remove(at: index)
    case 3: bytes.insert(bytes.randomElement(using: &generator) ?? 0, at: index)
    default: bytes[index] = UInt8.random(in: 0x30...0x39, using: &generator)
    }
  }

  /// The header's text with every page's checksum computed anew.
  private static func resealed(_ image: CompactImage) throws -> [UInt8] {
    var position = 0
    let json = try image.json
    let members = (json.members ?? []).map { member -> JSONValue.Member in
      guard member.key == "tensors" else { return member }
      let tensors = (member.value.elements ?? []).map { tensor -> JSONValue in
        .object(
          (tensor.members ?? []).map { member in
            guard member.key == "pages", var numbers = member.value.elements else { return member }
            for index in stride(from: 0, to: numbers.count, by: 2) {
              let size = numbers[index].integer ?? 0
              let page = Array(image.body[position..<(position + size)])
              numbers[index + 1] = .integer(Int(page.crc32))
              position += (size + 15) / 16 * 16
            }
            return .init("pages", .array(numbers))
          })
      }
      return .init("tensors", .array(tensors))
    }
    return Array(JSONValue.object(members).text().utf8)
  }
}
