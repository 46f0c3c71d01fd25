/// What is known of a tensor without reading its data.
public struct TensorInfo: Hashable, Sendable {
  /// The tensor's name in its checkpoint.
  public var name: TensorName
  /// The type of its elements as stored.
  public var dtype: DType
  /// Its dimensions.
  public var shape: Shape
  /// Bytes that its elements take.
  public let byteCount: Int

  /// Describes a tensor, or returns `nil` where its elements do not fill whole bytes or are too many to count.
  public init?(name: TensorName, dtype: DType, shape: Shape) {
    guard let byteCount = dtype.byteCount(ofElements: shape.elementCount) else { return nil }
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.byteCount = byteCount
  }
}
