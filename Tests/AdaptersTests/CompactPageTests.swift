import LinearAlgebra
import Tensors
import Testing

@testable import Checkpoints

/// Pages of quantised tensors: what is written comes back, and every rule broken one by one is refused.
struct CompactPageTests {
  private func decoded(_ page: [UInt8], rows: Int, columns: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xAA, count: 4 * rows * columns)
    try QuantisedPage.decode(page, rows: rows, columns: columns, into: &bytes)
    return bytes
  }

  @Test("Whole numbers of every size come back", arguments: 0..<24)
  func roundTrip(_ seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let rows = Int.random(in: 1...9, using: &generator)
    let columns = [1, 2, 7, 64, 501, 2048, 3001].randomElement(using: &generator) ?? 1
    var steps: [UInt16] = []
    var codes: [Int32] = []
    // Columns differ by octaves, so that those with enough of them are told apart.
    let octaves = (0..<columns).map { _ in Int32.random(in: -3...8, using: &generator) }
    for row in 0..<rows {
      steps.append(row == 3 ? 0 : UInt16.random(in: 1..<0x7F80, using: &generator))
      let large: Int32 = row == 1 ? 14 : row == 2 ? 6 : 0
      codes += octaves.map { octave in
        if octave < 0 { return 0 }
        let limit = min(Int32(1) << (octave + large), QuantisedMatrix.maximumCode)
        return Int32.random(in: -limit...limit, using: &generator)
      }
    }
    codes[0] = -QuantisedMatrix.maximumCode
    let matrix = QuantisedMatrix(columns: columns, steps: steps, codes: codes)
    let page = try QuantisedPageWriter.encode(matrix)
    #expect(page.count <= QuantisedPage.maximumSize(rows: rows, columns: columns))
    // A code beside a step of 0 may be lost, and so may the sign of zero.
    let wanted = matrix.bytes.enumerated().map { index, byte in
      steps[index / (4 * columns)] == 0 ? 0 : byte
    }
    #expect(try decoded(page, rows: rows, columns: columns) == wanted)
  }

  /// Two rows of three columns, of classes 1, 0 and 2, by the table of the manual page: steps 1 and 0.5, shifts 0 and 3.
  private static let rows: [UInt8] = [0x80, 0x3F, 0, 0x00, 0x3F, 3]
  private static let classes: [UInt8] = [1, 0, 2]
  private static let tops: [UInt8] = [5, 0xFF, 0x80, 2]
  private static let lows: [UInt8] = [6, 1]
  private static let outliers: [UInt8] = [0x2C, 0x01]

  private static func page(_ planes: [[UInt8]], rows: [UInt8] = rows) -> [UInt8] {
    var page = rows
    for plane in planes { page.appendLittleEndian(UInt32(plane.count)) }
    return page + planes.flatMap(\.self)
  }

  @Test("A page made by hand is read as the manual page says")
  func byHand() throws {
    let bytes = try decoded(
      Self.page([Self.classes, Self.tops, Self.lows, Self.outliers]), rows: 2, columns: 3)
    let values = (0..<6).map { Float(bitPattern: bytes.littleEndian32(at: 4 * $0)) }
    // Class 1: 5, then -1 · 8 + 6; class 2: the outlier 300, then 2 · 8 + 1.
    #expect(values == [5, 0, 300, -1, 0, 8.5])
  }

  @Test("Rules of a page, broken one by one")
  func broken() throws {
    func expect(_ id: String, _ page: [UInt8], _ what: String) {
      do {
        _ = try decoded(page, rows: 2, columns: 3)
        Issue.record("\(what): the page was read")
      } catch {
        #expect((error as? SurgeryError)?.id == id, "\(what): \(error)")
      }
    }
    let planes = [Self.classes, Self.tops, Self.lows, Self.outliers]
    func changed(_ plane: Int, _ bytes: [UInt8]) -> [UInt8] {
      var planes = planes
      planes[plane] = bytes
      return Self.page(planes)
    }
    expect("lra.page", [], "nothing")
    expect("lra.page", Array(Self.rows.dropLast()), "rows cut short")
    expect("lra.page", Self.rows + [0, 0, 0], "words cut short")
    expect("lra.page", Self.page(planes, rows: [0x80, 0x7F, 0, 0, 0x3F, 3]), "infinite step")
    expect("lra.page", Self.page(planes, rows: [0x80, 0xBF, 0, 0, 0x3F, 3]), "negative step")
    expect("lra.page", Self.page(planes, rows: [0x80, 0x3F, 0, 0, 0x3F, 8]), "shift of 8")
    expect("lra.page", Self.page(planes, rows: [0x80, 0x3F, 0, 0, 0, 3]), "shift without step")
    expect("lra.page", changed(0, [1, 0, 16]), "class of 16")
    expect("lra.page", changed(0, [1, 0]), "class missing")
    expect("lra.page", changed(0, [1, 1, 2]), "another class than tops")
    expect("lra.page", changed(1, [5, 0xFF, 0x80]), "top missing")
    expect("lra.page", changed(1, [5, 0xFF, 4, 2]), "outlier too many")
    expect("lra.page", changed(2, [6]), "low missing")
    expect("lra.page", changed(2, [6, 1, 1]), "low too many")
    expect("lra.page", changed(3, [0x2C]), "half an outlier")
    expect("lra.page", Self.page(planes) + [0], "a byte behind")
    expect("lra.page", Array(Self.page(planes).dropLast()), "a byte short")
    for (method, id) in [(UInt8(0x40), "lra.deflate"), (0x80, "lra.page"), (0xC0, "lra.page")] {
      var page = Self.page(planes)
      page[Self.rows.count + 3] |= method
      expect(id, page, "method \(method >> 6)")
    }
  }
}
