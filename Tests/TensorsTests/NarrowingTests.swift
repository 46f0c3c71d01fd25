import Testing

@testable import Tensors

/// Narrowing against numpy, ml_dtypes and exact rational arithmetic (fixtures/floats/make.py).
@Suite struct NarrowingTests {
  /// The types of a record behind its input.
  private static let types: [DType] = [.f16, .bf16, .f8e4m3, .f8e5m2]

  private func isNaN(_ pattern: UInt64, _ dtype: DType) -> Bool {
    let width = dtype.bytesPerElement ?? 1
    return ElementConversion.floats(littleEndian([pattern], width: width), dtype)[0].isNaN
  }

  private func expectEqual(
    _ bytes: [UInt8], _ expected: [UInt64], _ dtype: DType, inputs: [Double]
  ) {
    let found = patterns(bytes, width: dtype.bytesPerElement ?? 1)
    for (index, pattern) in found.enumerated() {
      #expect(
        pattern == expected[index]
          || inputs[index].isNaN && isNaN(pattern, dtype)
            && isNaN(expected[index], dtype),
        "\(inputs[index]) to \(dtype): \(pattern), expected \(expected[index])")
    }
  }

  /// Finite inputs whose expected pattern is not.
  private func overflows(_ expected: [UInt64], _ dtype: DType, inputs: [Double]) -> Int {
    let width = dtype.bytesPerElement ?? 1
    let values = ElementConversion.doubles(littleEndian(expected, width: width), dtype)
    return zip(values, inputs).count { !$0.isFinite && $1.isFinite }
  }

  @Test func singlesAsNumPyAndMLDTypes() throws {
    var table = Cursor(try Fixtures.bytes("floats/narrow_f32.bin"))
    var inputs: [Float] = []
    var expected: [DType: [UInt64]] = [:]
    while !table.isAtEnd {
      inputs.append(Float(bitPattern: table.next(UInt32.self)))
      expected[.f16, default: []].append(UInt64(table.next(UInt16.self)))
      expected[.bf16, default: []].append(UInt64(table.next(UInt16.self)))
      expected[.f8e4m3, default: []].append(UInt64(table.next(UInt8.self)))
      expected[.f8e5m2, default: []].append(UInt64(table.next(UInt8.self)))
    }
    let doubles = inputs.map { Double($0) }
    for dtype in Self.types {
      let reference = try #require(expected[dtype])
      let single = ElementConversion.stored(inputs, dtype)
      let double = ElementConversion.stored(doubles, dtype)
      expectEqual(single.bytes, reference, dtype, inputs: doubles)
      expectEqual(double.bytes, reference, dtype, inputs: doubles)
      let overflowed = overflows(reference, dtype, inputs: doubles)
      #expect(overflowed > 0 && single.overflowed == overflowed)
      #expect(double.overflowed == overflowed)
    }
  }

  @Test func doublesAsExactArithmetic() throws {
    var table = Cursor(try Fixtures.bytes("floats/narrow_f64.bin"))
    var inputs: [Double] = []
    var expected: [DType: [UInt64]] = [:]
    while !table.isAtEnd {
      inputs.append(Double(bitPattern: table.next(UInt64.self)))
      expected[.f32, default: []].append(UInt64(table.next(UInt32.self)))
      expected[.f16, default: []].append(UInt64(table.next(UInt16.self)))
      expected[.bf16, default: []].append(UInt64(table.next(UInt16.self)))
      expected[.f8e4m3, default: []].append(UInt64(table.next(UInt8.self)))
      expected[.f8e5m2, default: []].append(UInt64(table.next(UInt8.self)))
    }
    for dtype in [.f32] + Self.types {
      let reference = try #require(expected[dtype])
      let found = ElementConversion.stored(inputs, dtype)
      expectEqual(found.bytes, reference, dtype, inputs: inputs)
      #expect(found.overflowed == overflows(reference, dtype, inputs: inputs), "\(dtype)")
    }
  }

  @Test(arguments: [DType.f16, .bf16, .f8e4m3, .f8e5m2])
  func everyPatternComesBack(dtype: DType) {
    let width = dtype.bytesPerElement ?? 1
    let all = (0..<(1 << (8 * width))).map { UInt64($0) }
    let bytes = littleEndian(all, width: width)
    let floats = ElementConversion.floats(bytes, dtype)
    let back = ElementConversion.stored(floats, dtype)
    let fromDoubles = ElementConversion.stored(ElementConversion.doubles(bytes, dtype), dtype)
    #expect(back.overflowed == 0 && fromDoubles.overflowed == 0)
    expectEqual(back.bytes, all, dtype, inputs: floats.map { Double($0) })
    expectEqual(fromDoubles.bytes, all, dtype, inputs: floats.map { Double($0) })
  }

  @Test func kernelEqualsThePlainCode() throws {
    var table = Cursor(try Fixtures.bytes("floats/narrow_f32.bin"))
    var inputs: [Float] = []
    while !table.isAtEnd {
      inputs.append(Float(bitPattern: table.next(UInt32.self)))
      table.position += 6
    }
    var random = SeededGenerator(state: 11)
    inputs += (0..<20_000).map { _ in Float(bitPattern: UInt32(truncatingIfNeeded: random.next())) }
    let fast = patterns(ElementConversion.stored(inputs, .f16).bytes, width: 2)
    for (value, pattern) in zip(inputs, fast) {
      #expect(UInt64(FloatPatterns.narrowToF16(value)) == pattern, "\(value.bitPattern)")
    }
    for count in 0..<20 {
      let few = ElementConversion.stored(Array(inputs[100..<100 + count]), .f16)
      #expect(patterns(few.bytes, width: 2) == Array(fast[100..<100 + count]))
    }
  }

  @Test func roundingToOddIsExactOrOdd() {
    var random = SeededGenerator(state: 5)
    for _ in 0..<20_000 {
      // Exponents of single precision and a little beyond.
      let exponent = UInt64.random(in: 1023 - 152...1023 + 129, using: &random)
      let bits = random.next() & 0x800F_FFFF_FFFF_FFFF | exponent << 52
      let value = Double(bitPattern: bits)
      let odd = ElementConversion.roundedToOdd(value)
      guard Double(odd) != value else { continue }
      #expect(odd.bitPattern & 1 == 1 && odd.isFinite, "\(value)")
      #expect(odd.sign == value.sign)
      // One of the two neighbours in single precision.
      let next = Float(bitPattern: odd.bitPattern + 1)
      let previous = odd.magnitude > 0 ? Float(bitPattern: odd.bitPattern - 1) : odd
      #expect(Double(previous).magnitude < value.magnitude)
      #expect(!next.isFinite || value.magnitude < Double(next).magnitude)
    }
  }

  @Test func integersRoundToEvenAndClamp() {
    func narrowed(_ values: [Double], _ dtype: DType) -> ([UInt64], Int) {
      let (bytes, overflowed) = ElementConversion.stored(values, dtype)
      return (patterns(bytes, width: dtype.bytesPerElement ?? 1), overflowed)
    }
    #expect(narrowed([0.5, 1.5, 2.5, -0.5, 255.4], .u8) == ([0, 2, 2, 0, 255], 0))
    #expect(narrowed([255.5, 256, -1, .nan, .infinity], .u8) == ([255, 255, 0, 0, 255], 5))
    #expect(narrowed([-128.5, -129, 127.5], .i8) == ([0x80, 0x80, 0x7F], 2))
    #expect(
      narrowed([0x1p63, -0x1p63, 0x1p62], .i64) == ([0x7FFF_FFFF_FFFF_FFFF, 1 << 63, 1 << 62], 1))
    #expect(narrowed([0x1p64, 0x1p63], .u64) == ([.max, 1 << 63], 1))
    #expect(narrowed([0, -0.0, 0.1, -3, .nan], .bool) == ([0, 0, 1, 1, 1], 0))
    let single = ElementConversion.stored([Float(2.5), 300, -1], .u8)
    #expect(single.bytes == [2, 255, 0] && single.overflowed == 2)
  }

  @Test func overflowCountsOnlyFiniteValues() {
    #expect(ElementConversion.stored([Float.infinity, .nan, 65519, 65520], .f16).overflowed == 1)
    #expect(ElementConversion.stored([Float.greatestFiniteMagnitude], .bf16).overflowed == 1)
    #expect(
      ElementConversion.stored([Float(464), 464.1, .infinity, .nan], .f8e4m3).overflowed == 1)
    #expect(ElementConversion.stored([Float(61439), 61440, -61440], .f8e5m2).overflowed == 2)
    #expect(ElementConversion.stored([1e39, Double.infinity], .f32).overflowed == 1)
    var loss = NarrowingLoss()
    loss.overflowed = 2
    loss += loss
    #expect(loss.overflowed == 4)
  }
}

/// A generator that gives the same numbers in every run: SplitMix64 of Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
