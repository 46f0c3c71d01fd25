/// The dimensions of a tensor, outermost first; elements lie in row-major order.
public struct Shape: Hashable, Sendable {
  /// The dimensions, outermost first; empty for a scalar.
  public let dimensions: [Int]
  /// The number of elements: the product of the dimensions, 1 for a scalar.
  public let elementCount: Int

  /// Creates a shape, or `nil` where a dimension is negative or the product of the non-zero dimensions
  /// exceeds the range of `Int`.
  ///
  /// A zero does not excuse an overflow elsewhere, so the verdict does not depend on the order of dimensions.
  public init?(_ dimensions: [Int]) {
    var product = 1
    var hasZero = false
    for dimension in dimensions {
      guard dimension >= 0 else { return nil }
      if dimension == 0 {
        hasZero = true
        continue
      }
      let (next, overflow) = product.multipliedReportingOverflow(by: dimension)
      if overflow { return nil }
      product = next
    }
    self.dimensions = dimensions
    elementCount = hasZero ? 0 : product
  }

  /// The shape of a scalar.
  public static let scalar = Shape(scalarOf: ())

  private init(scalarOf: Void) {
    dimensions = []
    elementCount = 1
  }

  /// Creates the shape of a matrix; `rows * columns` must fit, as they do for anything in memory.
  public init(rows: Int, columns: Int) {
    precondition(rows >= 0 && columns >= 0, "negative dimension \(rows) x \(columns)")
    dimensions = [rows, columns]
    elementCount = rows * columns
  }

  /// The number of dimensions.
  public var rank: Int { dimensions.count }

  /// The first dimension, 1 for a scalar: the number of rows when the tensor is seen as a matrix.
  public var rows: Int { dimensions.first ?? 1 }

  /// Elements in one row: the product of all dimensions but the first.
  public var columns: Int {
    dimensions.dropFirst().reduce(1, *)
  }
}

extension Shape: CustomStringConvertible, Codable {
  /// The shape as `[2, 3]`; long shapes are cut.
  public var description: String {
    let shown = dimensions.prefix(8).map(String.init).joined(separator: ", ")
    return "[\(shown)\(dimensions.count > 8 ? ", … (\(dimensions.count) dimensions)" : "")]"
  }

  /// Reads a shape from an array of dimensions.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let shape = Shape(try container.decode([Int].self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "no valid shape")
    }
    self = shape
  }

  /// Writes the dimensions as an array.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(dimensions)
  }
}
