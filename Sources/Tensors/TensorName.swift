/// The name of a tensor, compared byte by byte.
///
/// Swift's `String` holds two spellings of é (one scalar, or e and a combining accent) for equal; a file
/// that has both has two tensors. Equality, hashing and order here are those of the UTF-8 bytes.
public struct TensorName: Sendable {
  /// The name as text.
  public let text: String

  /// Creates a name from its text.
  public init(_ text: String) { self.text = text }
}

extension TensorName: Hashable, Comparable {
  /// Whether both names have the same bytes.
  public static func == (left: Self, right: Self) -> Bool {
    var (left, right) = (left.text, right.text)
    return left.withUTF8 { leftBytes in
      right.withUTF8 { rightBytes in
        unsafe leftBytes.count == rightBytes.count && leftBytes.elementsEqual(rightBytes)
      }
    }
  }

  /// Whether the bytes of `left` come before those of `right`.
  public static func < (left: Self, right: Self) -> Bool {
    left.text.utf8.lexicographicallyPrecedes(right.text.utf8)
  }

  /// Feeds the bytes of the name to `hasher`.
  public func hash(into hasher: inout Hasher) {
    var copy = text
    copy.withUTF8 { unsafe hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

extension TensorName: ExpressibleByStringLiteral, CustomStringConvertible, Codable {
  /// Creates a name from a literal.
  public init(stringLiteral text: String) { self.init(text) }

  /// The name as text.
  public var description: String { text }

  /// Reads a name as a plain string.
  public init(from decoder: any Decoder) throws {
    self.init(try decoder.singleValueContainer().decode(String.self))
  }

  /// Writes the name as a plain string.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text)
  }
}
