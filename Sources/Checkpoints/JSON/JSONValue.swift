public import Tensors

/// A JSON value that keeps the order of members and the text of numbers.
public indirect enum JSONValue: Sendable, Hashable {
  case null
  case bool(Bool)
  /// A number as it was written.
  case number(String)
  case string(String)
  case array([JSONValue])
  /// Members in the order of the file; keys are unique.
  case object([Member])

  /// One key of an object with its value.
  public struct Member: Sendable, Hashable {
    /// The key.
    public var key: String
    /// The value.
    public var value: JSONValue

    /// Creates a member.
    public init(_ key: String, _ value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  /// Parses strict RFC 8259 text.
  ///
  /// - Parameter bytes: UTF-8 text of one JSON value.
  /// - Throws: `json.syntax`, `json.duplicate`, `json.depth` or `json.utf8` with the byte.
  public init(parsing bytes: [UInt8]) throws(SurgeryError) {
    var scanner = JSONScanner(bytes)
    self = try scanner.value()
    try scanner.expectEnd()
  }

  /// The value of a key, where this is an object that has it.
  public subscript(key: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key.utf8.elementsEqual(key.utf8) }?.value
  }

  /// The members, where this is an object.
  public var members: [Member]? {
    if case .object(let members) = self { members } else { nil }
  }

  /// The elements, where this is an array.
  public var elements: [JSONValue]? {
    if case .array(let elements) = self { elements } else { nil }
  }

  /// The text, where this is a string.
  public var text: String? {
    if case .string(let text) = self { text } else { nil }
  }

  /// The value, where this is `true` or `false`.
  public var flag: Bool? {
    if case .bool(let flag) = self { flag } else { nil }
  }

  /// The value, where this is a number written as a plain integer that fits.
  public var integer: Int? {
    if case .number(let text) = self { Int(text) } else { nil }
  }

  /// The value, where this is a number.
  public var double: Double? {
    if case .number(let text) = self { Double(text) } else { nil }
  }

  /// Whether this is `null`.
  public var isNull: Bool { self == .null }

  /// A number from an integer.
  public static func integer(_ value: Int) -> Self { .number(String(value)) }

  /// A number from a finite double, with integers written without a fraction.
  public static func double(_ value: Double) -> Self {
    precondition(value.isFinite, "JSON has no \(value)")
    if let whole = Int(exactly: value), whole.magnitude < 1 << 53 { return .number(String(whole)) }
    return .number("\(value)")
  }
}

extension JSONScanner {
  /// Scans any value.
  mutating func value() throws(SurgeryError) -> JSONValue {
    switch peek() {
    case UInt8(ascii: "{"):
      var members: [JSONValue.Member] = []
      try object { (scanner, key) throws(SurgeryError) in
        do throws(SurgeryError) {
          members.append(JSONValue.Member(key, try scanner.value()))
        } catch {
          throw error.atKey(key)
        }
      }
      return .object(members)
    case UInt8(ascii: "["):
      var elements: [JSONValue] = []
      try array { scanner throws(SurgeryError) in elements.append(try scanner.value()) }
      return .array(elements)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"):
      try word("true")
      return .bool(true)
    case UInt8(ascii: "f"):
      try word("false")
      return .bool(false)
    case UInt8(ascii: "n"):
      try word("null")
      return .null
    case nil: throw failure("JSON ends where a value is expected")
    default: return .number(try number())
    }
  }
}

extension SurgeryError {
  /// This error with the key whose value it was met in; the innermost key is named.
  fileprivate func atKey(_ key: String) -> Self {
    guard !what.contains(" at key ") else { return self }
    var error = self
    error.what += " at key \"\(DisplayText.escaped(key))\""
    return error
  }
}
