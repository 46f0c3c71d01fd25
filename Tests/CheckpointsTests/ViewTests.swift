import Tensors
import Testing

@testable import Checkpoints

/// Strided and big-endian views, against a plain walk over the same indices.
@Suite struct ViewTests {
  private func source(_ bytes: [UInt8], _ folder: TemporaryFolder) throws -> PlainSource {
    PlainSource(file: try InputFile(folder.write("data", bytes)), offset: 0)
  }

  /// What a strided view holds, one element after the other.
  private func walk(
    _ bytes: [UInt8], _ counts: [Int], _ strides: [Int], _ offset: Int, _ size: Int
  ) -> [UInt8] {
    var result: [UInt8] = []
    var indices = [Int](repeating: 0, count: counts.count)
    while true {
      let position = zip(indices, strides).reduce(offset) { $0 + $1.0 * $1.1 } * size
      result += bytes[position..<position + size]
      guard let side = indices.indices.last(where: { indices[$0] + 1 < counts[$0] }) else {
        return result
      }
      indices[side] += 1
      for later in indices.indices where later > side { indices[later] = 0 }
    }
  }

  private func read(_ source: any TensorSource, count: Int, pieces: Int) throws -> [UInt8] {
    var reader = try source.makeReader()
    var result: [UInt8] = []
    while result.count < count {
      let start = result.count
      result += try [UInt8](filling: min(pieces, count - start)) { target throws(SurgeryError) in
        try reader.read(at: start, into: &target)
      }
    }
    return result
  }

  @Test func agreesWithAPlainWalk() throws {
    var random = SeededGenerator(state: 7)
    let folder = try TemporaryFolder()
    for _ in 0..<120 {
      let size = [1, 2, 4, 8].randomElement(using: &random) ?? 1
      let rank = Int.random(in: 0...4, using: &random)
      let counts = (0..<rank).map { _ in Int.random(in: 1...5, using: &random) }
      let strides = (0..<rank).map { _ in Int.random(in: 0...7, using: &random) }
      let offset = Int.random(in: 0...3, using: &random)
      let last = zip(counts, strides).reduce(offset) { $0 + ($1.0 - 1) * $1.1 }
      let bytes = (0..<(last + 1) * size).map { _ in UInt8.random(in: 0...255, using: &random) }
      let layout = StridedLayout(
        counts: counts, strides: strides, offset: offset, elementSize: size)
      let view = StridedSource(try source(bytes, folder), layout: layout)
      let expected = walk(bytes, counts, strides, offset, size)
      for pieces in [1, 7, 1000] {
        #expect(try read(view, count: expected.count, pieces: pieces) == expected)
      }
    }
  }

  /// Larger than a slab and a window, so that both move.
  @Test(arguments: [[350, 750], [3, 200, 450], [1000, 1, 260]], [false, true])
  func readsFortranOrderSlabBySlab(dimensions: [Int], isDeflated: Bool) throws {
    let shape = try #require(Shape(dimensions))
    let values = (0..<UInt64(shape.elementCount)).map { $0 &* 0x9E37_79B9_7F4A_7C15 >> 40 }
    let spelling = dimensions.map(String.init).joined(separator: ", ")
    let array = npy(
      npyHeader("<u8", "(\(spelling))", fortran: true), data: values.withUnsafeBytes { Array($0) })
    let member = isDeflated ? try ZipBuilder.Member.deflated("a", array) : .init("a", array)
    let tensor = try open(ZipBuilder([member]).bytes, as: "x.npz").tensors[0]
    let expected = values.indices.map { index in
      var (rest, position) = (index, 0)
      for side in dimensions.indices.reversed() {
        position += rest % dimensions[side] * dimensions[..<side].reduce(1, *)
        rest /= dimensions[side]
      }
      return values[position]
    }.withUnsafeBytes { Array($0) }
    let read = try read(tensor.source, count: expected.count, pieces: 1 << 20)
    #expect(read == expected)
    var middle = try tensor.source.makeReader()
    let part = try [UInt8](filling: 1000) { target throws(SurgeryError) in
      try middle.read(at: 1_234_567, into: &target)
    }
    #expect(part == Array(expected[1_234_567..<1_235_567]))
  }

  @Test(arguments: [2, 4, 8]) func swapsUnitsReadInAnyPieces(unit: Int) throws {
    let folder = try TemporaryFolder()
    let bytes = (0..<80).map { UInt8($0) }
    let expected = stride(from: 0, to: 80, by: unit).flatMap {
      bytes[$0..<$0 + unit].reversed()
    }
    let swapped = ByteSwappedSource(try source(bytes, folder), unit: unit)
    for pieces in 1...80 {
      #expect(try read(swapped, count: 80, pieces: pieces) == expected)
    }
  }

  @Test func seesWhatLiesPlain() throws {
    let folder = try TemporaryFolder()
    let plain = try source([UInt8](repeating: 0, count: 64), folder)
    func offset(_ counts: [Int], _ strides: [Int], _ start: Int) -> UInt64? {
      StridedSource(
        plain,
        layout: StridedLayout(counts: counts, strides: strides, offset: start, elementSize: 4)
      ).plainOffset
    }
    #expect(offset([2, 3], [3, 1], 1) == 4)
    #expect(offset([1, 3], [99, 1], 0) == 0)
    #expect(offset([2, 3], [1, 2], 0) == nil)
    #expect(offset([], [], 5) == 20)
  }
}
