package import CTensorKernels

/// What adding deltas to stored elements did.
public struct AdditionSums: Sendable, Hashable {
  /// The sum of the squares of the elements before.
  public var squaredWeight = 0.0
  /// The sum of the squares of what was added.
  public var squaredDelta = 0.0
  /// The inner product of the delta and the change that rounding left of it.
  public var kept = 0.0
  /// Elements that are stored with other bits than before.
  public var changed = 0
  /// Elements that were NaN or infinite before.
  public var nonFinite = 0
  /// Values that the storage type cannot hold.
  public var loss = NarrowingLoss()

  /// Nothing added.
  public init() {}

  /// What a kernel found.
  package init(_ raw: lora_addition) {
    squaredWeight = raw.squared_weight
    squaredDelta = raw.squared_delta
    kept = raw.kept
    changed = raw.changed
    nonFinite = raw.non_finite
    loss.overflowed = raw.overflowed
  }

  /// Adds the sums of another block.
  public static func += (left: inout Self, right: Self) {
    left.squaredWeight += right.squaredWeight
    left.squaredDelta += right.squaredDelta
    left.kept += right.kept
    left.changed += right.changed
    left.nonFinite += right.nonFinite
    left.loss += right.loss
  }
}

extension ElementConversion {
  /// Adds a delta to stored elements, each sum rounded once to nearest even, in one pass over all three.
  ///
  /// Elements that are NaN or infinite stay as they are. The result is the same bits on every machine.
  ///
  /// - Parameters:
  ///   - delta: What is added.
  ///   - source: `delta.count` elements of `dtype`, little-endian.
  ///   - dtype: The type of source and target.
  ///   - target: Receives as many elements of the same type.
  /// - Returns: What was done, or `nil` where there is no such kernel for the type and nothing was done.
  /// - Complexity: O(*n*), at about the speed of memory.
  public static func add(
    _ delta: Span<Float>, to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan
  ) -> AdditionSums? {
    switch dtype {
    case .bf16: unsafe add(delta, source, &target, UInt16.self, lora_add_bf16)
    case .f16: unsafe add(delta, source, &target, UInt16.self, lora_add_f16)
    default: nil
    }
  }

  /// Adds a delta to stored elements in double precision; otherwise as for single precision.
  ///
  /// - Parameters:
  ///   - delta: What is added.
  ///   - source: `delta.count` elements of `dtype`, little-endian.
  ///   - dtype: The type of source and target.
  ///   - target: Receives as many elements of the same type.
  /// - Returns: What was done, or `nil` where there is no such kernel for the type and nothing was done.
  public static func add(
    _ delta: Span<Double>, to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan
  ) -> AdditionSums? {
    switch dtype {
    case .f32: unsafe add(delta, source, &target, UInt32.self, lora_add_f32)
    default: nil
    }
  }

  private static func add<Pattern, Value>(
    _ delta: Span<Value>, _ source: RawSpan, _ target: inout MutableRawSpan, _: Pattern.Type,
    _ kernel: (
      UnsafePointer<Pattern>?, UnsafePointer<Value>?, UnsafeMutablePointer<Pattern>?, Int,
      UnsafeMutablePointer<lora_addition>?
    ) -> Void
  ) -> AdditionSums {
    let count = delta.count
    let size = count * MemoryLayout<Pattern>.size
    precondition(
      source.byteCount == size && target.byteCount == size,
      "\(count) elements do not take \(source.byteCount) and \(target.byteCount) bytes")
    var raw = lora_addition()
    unsafe delta.withUnsafeBufferPointer { delta in
      unsafe source.withUnsafeBytes { source in
        unsafe target.withUnsafeMutableBytes { target in
          unsafe kernel(
            source.baseAddress?.assumingMemoryBound(to: Pattern.self), delta.baseAddress,
            target.baseAddress?.assumingMemoryBound(to: Pattern.self), count, &raw)
        }
      }
    }
    return AdditionSums(raw)
  }

  /// The sums of a change that was made by other means, element by element.
  ///
  /// - Parameters:
  ///   - before: The widened elements before.
  ///   - exact: What they became before rounding.
  ///   - after: What they became, widened again.
  /// - Returns: The sums; `changed` counts values, not bits, and `nonFinite` the elements before.
  @specialized(where Value == Float)
  @specialized(where Value == Double)
  public static func sums<Value: BinaryFloatingPoint>(
    before: Span<Value>, exact: Span<Value>, after: Span<Value>
  ) -> AdditionSums {
    var sums = AdditionSums()
    for index in before.indices {
      let (old, change) = (Double(before[index]), Double(exact[index]) - Double(before[index]))
      sums.squaredWeight += old * old
      sums.squaredDelta += change * change
      sums.kept += change * (Double(after[index]) - old)
      sums.changed += before[index] == after[index] ? 0 : 1
      sums.nonFinite += before[index].isFinite ? 0 : 1
    }
    return sums
  }
}
