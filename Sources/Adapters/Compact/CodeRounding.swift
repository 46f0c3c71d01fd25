import Checkpoints

/// Rounds elements times a factor to codes, to nearest even, within the greatest code.
///
/// - Parameters:
///   - elements: Finite numbers.
///   - factor: The reciprocal of the step.
///   - codes: Receives one code for each element.
///   - start: The first of them.
func roundToCodes(
  _ elements: Span<Double>, times factor: Double, into codes: inout MutableSpan<Int32>,
  at start: Int
) {
  precondition(start >= 0 && start + elements.count <= codes.count, "codes out of range")
  let limit = Double(QuantisedMatrix.maximumCode)
  // Adding it leaves a whole number, rounded as the processor rounds, in the low bits of the sum; rounding by a call of the
  // C library keeps the loop from being vectorised.
  let shifter = 0x1.8p52
  unsafe elements.withUnsafeBufferPointer { elements in
    unsafe codes.withUnsafeMutableBufferPointer { codes in
      for index in 0..<elements.count {
        var value = unsafe elements[index] * factor
        value = value < -limit ? -limit : value
        value = value > limit ? limit : value
        unsafe codes[start &+ index] = Int32(truncatingIfNeeded: (value + shifter).bitPattern)
      }
    }
  }
}

/// The squared distance between codes times their step and the exact elements.
///
/// - Parameters:
///   - codes: The codes.
///   - step: Their step.
///   - elements: As many exact elements.
/// - Returns: The sum, in eight lanes, in an order that depends on the count alone.
func squaredDistanceOfCodes(
  _ codes: Span<Int32>, times step: Double, from elements: Span<Double>
) -> Double {
  precondition(codes.count == elements.count, "other elements")
  return unsafe codes.withUnsafeBufferPointer { codes in
    unsafe elements.withUnsafeBufferPointer { elements in
      var lanes = SIMD8<Double>(repeating: 0)
      let whole = codes.count & ~7
      for index in stride(from: 0, to: whole, by: 8) {
        var distance = SIMD8<Double>()
        for lane in 0..<8 {
          distance[lane] =
            unsafe Double(codes[index &+ lane]) * step - elements[index &+ lane]
        }
        lanes += distance * distance
      }
      var sum = lanes.sum()
      for index in whole..<codes.count {
        let distance = unsafe Double(codes[index]) * step - elements[index]
        sum += distance * distance
      }
      return sum
    }
  }
}

/// The differences of corresponding elements, of which there are as many on both sides.
func differences(_ first: [Double], _ second: [Double]) -> [Double] {
  precondition(first.count == second.count, "other elements")
  return unsafe [Double](unsafeUninitializedCapacity: first.count) { target, count in
    for index in 0..<first.count { unsafe target[index] = first[index] - second[index] }
    count = first.count
  }
}
