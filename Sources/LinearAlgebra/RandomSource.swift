/// A seeded generator of normally distributed numbers, equal on every machine.
///
/// SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195). The sum of four uniform numbers is near
/// enough to a normal one for a sketch, and needs no transcendental function that differs between libraries.
package struct RandomSource {
  private var state: UInt64

  /// Starts the sequence of a seed.
  package init(seed: UInt64) { state = seed }

  /// The next 64 bits.
  package mutating func next() -> UInt64 {
    defer { state &+= Self.step }
    return Self.number(after: state)
  }

  /// The 64 bits that follow a state: without a sequence, a number of its own for every argument.
  package static func number(after state: UInt64) -> UInt64 {
    var z = state &+ step
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  private static let step: UInt64 = 0x9E37_79B9_7F4A_7C15

  /// Uniform sums from the four 16-bit parts of one draw: bell-shaped, mean 0, variance 1/3.
  mutating func matrix<Scalar: BLASScalar>(rows: Int, columns: Int, of: Scalar.Type) -> Matrix<
    Scalar
  > {
    Matrix(rows: rows, columns: columns, elements: bells(rows * columns))
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private mutating func bells<Scalar: BLASScalar>(_ count: Int) -> [Scalar] {
    unsafe [Scalar](unsafeUninitializedCapacity: count) { target, filled in
      for i in 0..<count {
        let bits = next()
        let sum =
          Int(bits & 0xFFFF) &+ Int((bits >> 16) & 0xFFFF) &+ Int((bits >> 32) & 0xFFFF)
          &+ Int(bits >> 48)
        unsafe target[i] = Scalar(sum &- 131_070) / 65536
      }
      filled = count
    }
  }
}
