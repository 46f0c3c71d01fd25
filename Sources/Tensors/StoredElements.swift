extension Array where Element: WorkingScalar {
  /// Widens stored elements.
  ///
  /// - Parameters:
  ///   - bytes: Whole elements of the dtype, little-endian.
  ///   - dtype: A numeric type; another is a programming error.
  public init(widening bytes: [UInt8], from dtype: DType) {
    self.init(repeating: 0, count: dtype.bytesPerElement.map { bytes.count / $0 } ?? 0)
    var span = mutableSpan
    unsafe Element.widen(bytes.span.bytes, from: dtype, into: &span)
  }

  /// The elements as they are stored, each rounded once, to nearest even.
  ///
  /// - Parameter dtype: A numeric type; another is a programming error.
  /// - Returns: The bytes, little-endian.
  public func narrowed(to dtype: DType) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: dtype.byteCount(ofElements: count) ?? 0)
    var byteSpan = bytes.mutableSpan
    var target = unsafe byteSpan.mutableBytes
    _ = Element.narrow(span, to: dtype, into: &target)
    return bytes
  }
}
