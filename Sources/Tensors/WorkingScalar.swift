/// The precision that arithmetic is done in: `Float` or `Double`.
public protocol WorkingScalar: BinaryFloatingPoint, BitwiseCopyable, Sendable {
  /// Widens stored elements; see `ElementConversion.widen`.
  static func widen(_ source: RawSpan, from dtype: DType, into target: inout MutableSpan<Self>)

  /// Widens the difference of stored elements in one pass, if there is a kernel for the type; see
  /// `ElementConversion.widenDifference`.
  static func widenDifference(
    _ minuend: RawSpan, _ subtrahend: RawSpan, from dtype: DType,
    into target: inout MutableSpan<Self>
  ) -> Bool

  /// Narrows values to a stored type; see `ElementConversion.narrow`.
  static func narrow(
    _ source: Span<Self>, to dtype: DType, into target: inout MutableRawSpan
  ) -> NarrowingLoss

  /// Adds a delta to stored elements where there is a kernel for the type; see `ElementConversion.add`.
  static func add(
    _ delta: Span<Self>, to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan
  ) -> AdditionSums?
}

extension Float: WorkingScalar {
  /// Widens stored elements to single precision.
  public static func widen(
    _ source: RawSpan, from dtype: DType, into target: inout MutableSpan<Float>
  ) { ElementConversion.widen(source, from: dtype, into: &target) }

  /// Widens the difference of stored elements, if there is a kernel for the type.
  public static func widenDifference(
    _ minuend: RawSpan, _ subtrahend: RawSpan, from dtype: DType,
    into target: inout MutableSpan<Float>
  ) -> Bool {
    ElementConversion.widenDifference(minuend, subtrahend, from: dtype, into: &target)
  }

  /// Narrows single-precision values to a stored type.
  public static func narrow(
    _ source: Span<Float>, to dtype: DType, into target: inout MutableRawSpan
  ) -> NarrowingLoss { ElementConversion.narrow(source, to: dtype, into: &target) }

  /// Adds a delta to stored elements.
  public static func add(
    _ delta: Span<Float>, to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan
  ) -> AdditionSums? { ElementConversion.add(delta, to: source, of: dtype, into: &target) }
}

extension Double: WorkingScalar {
  /// Widens stored elements to double precision.
  public static func widen(
    _ source: RawSpan, from dtype: DType, into target: inout MutableSpan<Double>
  ) { ElementConversion.widen(source, from: dtype, into: &target) }

  /// Does nothing: no kernel works in double precision.
  public static func widenDifference(
    _ minuend: RawSpan, _ subtrahend: RawSpan, from dtype: DType,
    into target: inout MutableSpan<Double>
  ) -> Bool { false }

  /// Narrows double-precision values to a stored type.
  public static func narrow(
    _ source: Span<Double>, to dtype: DType, into target: inout MutableRawSpan
  ) -> NarrowingLoss { ElementConversion.narrow(source, to: dtype, into: &target) }

  /// Adds a delta to stored elements.
  public static func add(
    _ delta: Span<Double>, to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan
  ) -> AdditionSums? { ElementConversion.add(delta, to: source, of: dtype, into: &target) }
}
