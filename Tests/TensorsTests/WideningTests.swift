import Testing

@testable import Tensors

/// Widening against numpy and ml_dtypes (fixtures/floats/make.py) and against the standard library.
@Suite struct WideningTests {
  /// FNV-1a over the little-endian patterns with every NaN replaced by one, as make.py computes it.
  private func hash(_ values: [Float]) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for value in values {
      let bits = value.isNaN ? 0x7FC0_0000 : value.bitPattern
      for shift in 0..<4 {
        hash = (hash ^ UInt64(bits >> (8 * UInt32(shift)) & 0xFF)) &* 0x100_0000_01B3
      }
    }
    return hash
  }

  @Test(arguments: [DType.f16, .bf16])
  func everyPatternOfSixteenBits(dtype: DType) throws {
    let bytes = littleEndian((0..<65536).lazy.map { UInt64($0) }, width: 2)
    let floats = ElementConversion.floats(bytes, dtype)
    let lines = String(decoding: try Fixtures.bytes("floats/hashes.txt"), as: UTF8.self)
    let name = dtype == .f16 ? "f16" : "bf16"
    let line = try #require(lines.split(separator: "\n").first { $0.hasPrefix(name + " ") })
    #expect(String(hash(floats), radix: 16) == line.dropFirst(name.count + 1))
    let doubles = ElementConversion.doubles(bytes, dtype)
    for (float, double) in zip(floats, doubles) {
      #expect(double.isNaN ? float.isNaN : Double(float) == double && float.sign == double.sign)
    }
  }

  @Test func float16EqualsTheStandardLibrary() {
    #if !(os(macOS) && arch(x86_64))
      for pattern in UInt16.min...UInt16.max {
        let value = FloatPatterns.widen(f16: pattern)
        let reference = Float(Float16(bitPattern: pattern))
        #expect(value.isNaN ? reference.isNaN : value.bitPattern == reference.bitPattern)
      }
    #endif
  }

  @Test func everyPatternOfEightBits() throws {
    var table = Cursor(try Fixtures.bytes("floats/widen.bin"))
    for dtype in [DType.f8e4m3, .f8e5m2] {
      let floats = ElementConversion.floats((0..<256).map { UInt8($0) }, dtype)
      let doubles = ElementConversion.doubles((0..<256).map { UInt8($0) }, dtype)
      for pattern in 0..<256 {
        let reference = Float(bitPattern: table.next(UInt32.self))
        #expect(
          reference.isNaN
            ? floats[pattern].isNaN && doubles[pattern].isNaN
            : floats[pattern].bitPattern == reference.bitPattern
              && doubles[pattern] == Double(reference), "\(dtype) \(pattern)")
      }
    }
  }

  @Test func kernelsEqualThePlainCode() {
    let bytes = littleEndian((0..<65536).lazy.map { UInt64($0) }, width: 2)
    let fast = ElementConversion.floats(bytes, .f16)
    for pattern in 0..<65536 {
      #expect(
        fast[pattern].bitPattern == FloatPatterns.widen(f16: UInt16(pattern)).bitPattern,
        "\(pattern)")
    }
    // Lengths that leave a rest behind the vectors, from an odd address on.
    for count in 0..<20 {
      let shifted = [0xAA] + bytes[30000..<30000 + 2 * count]
      var values = [Float](repeating: 7, count: count)
      var span = values.mutableSpan
      ElementConversion.widen(
        shifted.span.extracting(1...).bytes, from: .f16, into: &span)
      #expect(values == Array(fast[15000..<15000 + count]))
    }
  }

  @Test func integersAndBooleans() {
    func both(_ bytes: [UInt8], _ dtype: DType, _ expected: [Double]) {
      #expect(ElementConversion.doubles(bytes, dtype) == expected, "\(dtype)")
      #expect(ElementConversion.floats(bytes, dtype) == expected.map { Float($0) }, "\(dtype)")
    }
    both([0, 1, 2, 255], .bool, [0, 1, 1, 1])
    both([0, 127, 128, 255], .u8, [0, 127, 128, 255])
    both([0, 127, 128, 255], .i8, [0, 127, -128, -1])
    both([0xFF, 0xFF, 0, 0x80], .u16, [65535, 32768])
    both([0xFF, 0xFF, 0, 0x80], .i16, [-1, -32768])
    both([0xFF, 0xFF, 0xFF, 0xFF], .u32, [4_294_967_295])
    both([0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x80], .i32, [-1, -2_147_483_648])
    both([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], .u64, [0x1p64])
    both([1, 0, 0, 0, 0, 0, 0, 0x80], .i64, [-0x1p63])
    // 2^24 + 1 is a tie in single precision, and 2^24 + 3 too: to even, down and up.
    both([1, 0, 0, 1, 3, 0, 0, 1], .u32, [16_777_217, 16_777_219])
  }

  @Test func doublesRoundOnceToSingle() {
    let values = [1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-50, 0x1p-150, 0x1.8p-150, 1e300]
    let bytes = littleEndian(values.map(\.bitPattern), width: 8)
    #expect(ElementConversion.floats(bytes, .f64) == [1, 1 + 0x1p-23, 0, 0x1p-149, .infinity])
    #expect(ElementConversion.doubles(bytes, .f64) == values)
  }

  @Test func nothingToWiden() {
    for dtype in [DType.f16, .bf16, .f32, .i64] {
      #expect(ElementConversion.floats([], dtype).isEmpty)
      #expect(ElementConversion.doubles([], dtype).isEmpty)
    }
  }
}
