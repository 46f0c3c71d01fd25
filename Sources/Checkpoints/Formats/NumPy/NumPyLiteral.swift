import Tensors

/// A value of the small part of Python's literals that npy headers are made of.
enum NumPyLiteral {
  case string(String)
  case bool(Bool)
  /// A decimal integer; `nil` where it does not fit `Int`.
  case integer(Int?)
  case tuple([NumPyLiteral])
  case list([NumPyLiteral])
  case dictionary([Member])

  /// A key with its value.
  struct Member {
    var key: String
    var value: NumPyLiteral
  }

  /// The dictionary of a header and nothing else.
  ///
  /// Nothing is evaluated: text that is no literal is an error, whatever Python would make of it.
  ///
  /// - Parameters:
  ///   - text: The header's characters.
  ///   - allowsLongs: Whether `2L` is read, as Python 2 wrote it into versions 1.0 and 2.0.
  /// - Throws: `npy.header` or `npy.depth`, with the character as offset.
  init(parsing text: [Unicode.Scalar], allowsLongs: Bool) throws(SurgeryError) {
    var parser = Parser(text: text, allowsLongs: allowsLongs)
    self = try parser.value()
    parser.skipSpace()
    guard parser.position == text.count else {
      throw parser.failure("the header goes on after its dictionary")
    }
  }
}

private struct Parser {
  /// Headers nest a few levels; structured types a few more.
  static let maximumDepth = 32

  let text: [Unicode.Scalar]
  let allowsLongs: Bool
  var position = 0
  var depth = 0

  func failure(_ what: String, id: String = "npy.header") -> SurgeryError {
    SurgeryError(.data, id, "npy header: " + what, offset: UInt64(position))
  }

  var next: Unicode.Scalar? { position < text.count ? text[position] : nil }

  mutating func skipSpace() {
    while let next, next == " " || next == "\t" || next == "\n" || next == "\r" { position += 1 }
  }

  mutating func skip(_ scalar: Unicode.Scalar) -> Bool {
    skipSpace()
    guard next == scalar else { return false }
    position += 1
    return true
  }

  mutating func value() throws(SurgeryError) -> NumPyLiteral {
    skipSpace()
    switch next {
    case "'", "\"": return .string(try string())
    case "{": return try nested { (parser) throws(SurgeryError) in try parser.dictionary() }
    case "[":
      return try nested { (parser) throws(SurgeryError) in
        .list(try parser.elements(until: "]").values)
      }
    case "(": return try nested { (parser) throws(SurgeryError) in try parser.tuple() }
    case nil: throw failure("it ends where a value is expected")
    case let scalar? where scalar == "-" || "0"..."9" ~= scalar: return .integer(try integer())
    default:
      if word("True") { return .bool(true) }
      if word("False") { return .bool(false) }
      throw failure("no literal of strings, True, False, integers, tuples, lists and dictionaries")
    }
  }

  private mutating func nested(
    _ body: (inout Self) throws(SurgeryError) -> NumPyLiteral
  ) throws(SurgeryError) -> NumPyLiteral {
    depth += 1
    guard depth <= Self.maximumDepth else {
      throw failure("it nests deeper than \(Self.maximumDepth) levels", id: "npy.depth")
    }
    position += 1
    let value = try body(&self)
    depth -= 1
    return value
  }

  private mutating func word(_ word: String) -> Bool {
    guard text[position...].starts(with: word.unicodeScalars) else { return false }
    position += word.unicodeScalars.count
    return true
  }

  private mutating func elements(
    until end: Unicode.Scalar
  ) throws(SurgeryError) -> (values: [NumPyLiteral], endsWithComma: Bool) {
    var values: [NumPyLiteral] = []
    while true {
      if skip(end) { return (values, !values.isEmpty) }
      values.append(try value())
      if skip(",") { continue }
      guard skip(end) else { throw failure("expected ',' or '\(end)'") }
      return (values, false)
    }
  }

  /// Parentheses around one value without a comma are no tuple in Python.
  private mutating func tuple() throws(SurgeryError) -> NumPyLiteral {
    let (values, endsWithComma) = try elements(until: ")")
    return values.count == 1 && !endsWithComma ? values[0] : .tuple(values)
  }

  private mutating func dictionary() throws(SurgeryError) -> NumPyLiteral {
    var members: [NumPyLiteral.Member] = []
    while true {
      if skip("}") { return .dictionary(members) }
      guard next == "'" || next == "\"" else { throw failure("a key is not a string") }
      let key = try string()
      guard !members.contains(where: { $0.key.utf8.elementsEqual(key.utf8) }) else {
        throw failure("duplicate key '\(DisplayText.escaped(key))'", id: "npy.duplicate")
      }
      guard skip(":") else { throw failure("expected ':' after a key") }
      members.append(.init(key: key, value: try value()))
      if skip(",") { continue }
      guard skip("}") else { throw failure("expected ',' or '}'") }
      return .dictionary(members)
    }
  }

  /// One string between quotes, without prefix and without what follows it.
  private mutating func string() throws(SurgeryError) -> String {
    let quote = next
    position += 1
    var string = String.UnicodeScalarView()
    while let scalar = next {
      position += 1
      if scalar == quote { return String(string) }
      guard scalar.value >= 0x20 else { throw failure("a control character in a string") }
      guard scalar == "\\" else {
        string.append(scalar)
        continue
      }
      guard let escaped = next, escaped == "\\" || escaped == "'" || escaped == "\"" else {
        throw failure("an escape other than \\\\, \\' and \\\" in a string")
      }
      string.append(escaped)
      position += 1
    }
    throw failure("a string without end")
  }

  private mutating func integer() throws(SurgeryError) -> Int? {
    let start = position
    if next == "-" { position += 1 }
    let digits = position
    while let next, "0"..."9" ~= next { position += 1 }
    guard position > digits, position == digits + 1 || text[digits] != "0" else {
      throw failure("an integer that is not plain decimal")
    }
    let value = Int(String(String.UnicodeScalarView(text[start..<position])))
    if allowsLongs, next == "L" { position += 1 }
    if let next, next.properties.isAlphabetic || next == "_" || next == "." {
      throw failure("an integer that is not plain decimal")
    }
    return value
  }
}
