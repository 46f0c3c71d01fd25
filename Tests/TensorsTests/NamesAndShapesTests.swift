import Testing

@testable import Tensors

@Suite struct ShapeTests {
  @Test(arguments: [
    [-1], [2, -1], [0, -1], [1 << 62, 2], [1 << 32, 1 << 32], [0, 1 << 62, 2], [1 << 62, 2, 0],
  ])
  func refuses(dimensions: [Int]) {
    #expect(Shape(dimensions) == nil)
  }

  @Test func counts() throws {
    #expect(Shape.scalar.elementCount == 1 && Shape.scalar == Shape([]))
    #expect(Shape.scalar.rows == 1 && Shape.scalar.columns == 1 && Shape.scalar.rank == 0)
    let deep = try #require(Shape([2, 3, 4]))
    #expect(deep.elementCount == 24 && deep.rows == 2 && deep.columns == 12 && deep.rank == 3)
    let empty = try #require(Shape([3, 0, 1 << 61]))
    #expect(empty.elementCount == 0 && empty.rows == 3 && empty.columns == 0)
    #expect(try #require(Shape([.max])).elementCount == .max)
    #expect(Shape(rows: 2, columns: 5) == Shape([2, 5]))
    #expect(deep.description == "[2, 3, 4]")
    #expect(try #require(Shape(Array(repeating: 1, count: 9))).description.contains("9 dimensions"))
  }

  @Test func bytesOfTensors() throws {
    func bytes(_ dtype: DType, _ dimensions: [Int]) throws -> Int? {
      TensorInfo(name: "t", dtype: dtype, shape: try #require(Shape(dimensions)))?.byteCount
    }
    #expect(try bytes(.f32, [2, 3]) == 24)
    #expect(try bytes(.f4, [2, 3]) == 3)
    #expect(try bytes(.f4, [3]) == nil)
    #expect(try bytes(.f6e2m3, [4]) == 3)
    #expect(try bytes(.f6e2m3, [3]) == nil)
    #expect(try bytes(.u8, [1 << 60]) == nil)
    #expect(try bytes(.u8, [1 << 59]) == 1 << 59)
    #expect(try bytes(.f64, [0, 1 << 61]) == 0)
    let blocks = DType.blockQuantised(
      BlockQuantisation(name: "Q8_0", elementsPerBlock: 32, bytesPerBlock: 34))
    #expect(try bytes(blocks, [2, 32]) == 68)
    #expect(try bytes(blocks, [33]) == nil)
    #expect(try bytes(blocks, [1 << 62]) == 34 << 57)
  }

  @Test func dtypesByName() {
    for dtype in DType.safetensors { #expect(DType(safetensorsName: dtype.name) == dtype) }
    #expect(Set(DType.safetensors.map(\.name)).count == DType.safetensors.count)
    for name in ["f32", "F32 ", "", "Q8_0", "F\u{33}\u{301}2"] {
      #expect(DType(safetensorsName: name) == nil)
    }
    #expect(DType.c64.byteOrderUnit == 4 && DType.f16.byteOrderUnit == 2)
    #expect(DType.f4.bytesPerElement == nil && !DType.c64.isNumeric && DType.bool.isNumeric)
  }
}

@Suite struct TensorNameTests {
  @Test func equalityIsThatOfBytes() {
    let composed = TensorName("\u{E9}")
    let decomposed = TensorName("e\u{301}")
    #expect(composed.text == decomposed.text)
    #expect(composed != decomposed)
    #expect(Set([composed, decomposed]).count == 2)
    #expect(composed.hashValue == TensorName("\u{E9}").hashValue)
  }

  @Test func orderIsThatOfBytes() {
    let names: [TensorName] = ["", "A", "a", "a.10", "a.2", "e\u{301}", "z", "\u{E9}", "\u{1F600}"]
    #expect(names.shuffled().sorted() == names)
  }
}

@Suite struct DisplayTextTests {
  @Test func numbersAgreeWithTheirNouns() {
    #expect("\(1, counting: "tensor"), \(0, counting: "row")" == "1 tensor, 0 rows")
    #expect("\(UInt64.max, counting: "byte")" == "18446744073709551615 bytes")
  }

  @Test func controlCharactersAreSpelt() {
    #expect(DisplayText.escaped("a\nb") == "a\\u{A}b")
    #expect(DisplayText.escaped("\u{1B}[31m") == "\\u{1B}[31m")
    #expect(DisplayText.escaped("\u{202E}x\u{200B}\u{2028}") == "\\u{202E}x\\u{200B}\\u{2028}")
    #expect(DisplayText.escaped("\0\u{7F}\u{85}\u{FEFF}") == "\\u{0}\\u{7F}\\u{85}\\u{FEFF}")
    #expect(DisplayText.escaped("名前 é 😀 \"") == "名前 é 😀 \"")
  }

  @Test func longTextIsCut() {
    #expect(DisplayText.escaped(String(repeating: "x", count: 120)).count == 120)
    #expect(DisplayText.escaped(String(repeating: "x", count: 121)).hasSuffix("x…"))
    // A million combining accents are one character; scalars are counted instead.
    #expect(
      DisplayText.escaped("e" + String(repeating: "\u{301}", count: 1_000_000)).utf8.count < 300)
  }

  @Test func errorsFitInOneLine() {
    let error = SurgeryError(
      .data, "st.size", "what\nfor", file: "a\u{1B}.safetensors", tensor: "x\r\n", expected: "1",
      found: "2\n3", offset: 8, hint: "none")
    #expect(
      error.description
        == "a\\u{1B}.safetensors: tensor \"x\\u{D}\\u{A}\": what\\u{A}for: expected 1, found 2\\u{A}3 (byte 8) [st.size]"
    )
    #expect(error.inFile("b").file == error.file && error.inTensor("y").tensor == error.tensor)
    #expect(
      SurgeryError(.io, "io.read", "failed").inFile("b").inTensor("y").description
        == "b: tensor \"y\": failed [io.read]")
  }
}
