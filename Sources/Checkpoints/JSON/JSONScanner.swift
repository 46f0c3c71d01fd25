import Tensors

/// A strict scanner of RFC 8259 text that meets hostile input.
///
/// Nothing beyond the grammar is read: no trailing commas, comments, byte-order marks or lone surrogates. Nesting is
/// limited, and keys are compared as decoded bytes, so that no key can hide another. Foundation's parsers accept most of
/// what is refused here.
struct JSONScanner {
  /// Nesting beyond this is refused; no checkpoint's header or configuration needs a tenth of it.
  static let maximumDepth = 64

  let bytes: [UInt8]
  private(set) var position = 0
  private var depth = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The failure at the current position.
  func failure(_ what: String, id: String = "json.syntax") -> SurgeryError {
    SurgeryError(.data, id, what, offset: UInt64(position))
  }

  /// Skips white space and returns the next byte without consuming it.
  mutating func peek() -> UInt8? {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x09, 0x0A, 0x0D: position += 1
      default: return bytes[position]
      }
    }
    return nil
  }

  /// Consumes `byte`, which must come next.
  mutating func expect(_ byte: UInt8) throws(SurgeryError) {
    guard peek() == byte else {
      let wanted = String(UnicodeScalar(byte))
      guard let next = peek() else {
        throw failure("JSON ends where '\(wanted)' is expected")
      }
      throw failure(
        "JSON has '\(DisplayText.escaped(String(UnicodeScalar(next))))' where '\(wanted)' is expected"
      )
    }
    position += 1
  }

  /// Fails unless only white space is left.
  mutating func expectEnd() throws(SurgeryError) {
    if peek() != nil { throw failure("text after the end of the JSON value") }
  }

  /// Scans an object, calling `member` with each key; `member` must consume the value.
  mutating func object(
    _ member: (inout Self, String) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    try expect(UInt8(ascii: "{"))
    try descend()
    defer { depth -= 1 }
    if peek() == UInt8(ascii: "}") {
      position += 1
      return
    }
    var keys = KeySet()
    while true {
      _ = peek()
      let start = position
      let key = try string()
      if !keys.insert(TensorName(key)) {
        position = start
        throw failure("duplicate key \"\(DisplayText.escaped(key))\"", id: "json.duplicate")
      }
      try expect(UInt8(ascii: ":"))
      do throws(SurgeryError) {
        try member(&self, key)
      } catch {
        var error = error
        if error.id == "json.syntax", error.expected == nil {
          error.expected = "a value of \"\(key)\""
        }
        throw error
      }
      if peek() == UInt8(ascii: ",") {
        position += 1
        continue
      }
      try expect(UInt8(ascii: "}"))
      return
    }
  }

  /// Scans an array, calling `element` where each element begins; it must consume the element.
  mutating func array(
    _ element: (inout Self) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    try expect(UInt8(ascii: "["))
    try descend()
    defer { depth -= 1 }
    if peek() == UInt8(ascii: "]") {
      position += 1
      return
    }
    while true {
      try element(&self)
      if peek() == UInt8(ascii: ",") {
        position += 1
        continue
      }
      try expect(UInt8(ascii: "]"))
      return
    }
  }

  private mutating func descend() throws(SurgeryError) {
    depth += 1
    if depth > Self.maximumDepth {
      throw failure("JSON is nested more than \(Self.maximumDepth) deep", id: "json.depth")
    }
  }

  /// Scans a string and returns its decoded text.
  mutating func string() throws(SurgeryError) -> String {
    try expect(UInt8(ascii: "\""))
    let start = position
    // The common case has no escape: find the end and validate once.
    while position < bytes.count {
      let byte = bytes[position]
      if byte == UInt8(ascii: "\"") {
        let text = try utf8Text(bytes[start..<position], from: start)
        position += 1
        return text
      }
      if byte == UInt8(ascii: "\\") { break }
      if byte < 0x20 { throw failure("a control character inside a JSON string") }
      position += 1
    }
    var decoded = Array(bytes[start..<position])
    while position < bytes.count {
      let byte = bytes[position]
      switch byte {
      case UInt8(ascii: "\""):
        let text = try utf8Text(decoded[...], from: start)
        position += 1
        return text
      case UInt8(ascii: "\\"):
        position += 1
        try escape(into: &decoded)
      case 0..<0x20: throw failure("a control character inside a JSON string")
      default:
        decoded.append(byte)
        position += 1
      }
    }
    throw failure("a JSON string is not closed")
  }

  private func utf8Text(
    _ slice: ArraySlice<UInt8>, from start: Int
  ) throws(SurgeryError) -> String {
    guard let text = String(validating: slice, as: UTF8.self) else {
      throw SurgeryError(
        .data, "json.utf8", "JSON text is not valid UTF-8", offset: UInt64(start))
    }
    return text
  }

  private mutating func escape(into decoded: inout [UInt8]) throws(SurgeryError) {
    guard position < bytes.count else { throw failure("a JSON string is not closed") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): decoded.append(byte)
    case UInt8(ascii: "b"): decoded.append(0x08)
    case UInt8(ascii: "f"): decoded.append(0x0C)
    case UInt8(ascii: "n"): decoded.append(0x0A)
    case UInt8(ascii: "r"): decoded.append(0x0D)
    case UInt8(ascii: "t"): decoded.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code) {
        guard position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
          bytes[position + 1] == UInt8(ascii: "u")
        else { throw failure("a lone surrogate in a JSON string", id: "json.utf8") }
        position += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else {
          throw failure("a lone surrogate in a JSON string", id: "json.utf8")
        }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw failure("a lone surrogate in a JSON string", id: "json.utf8")
      }
      decoded.append(contentsOf: UTF8.encode(scalar).map(Array.init) ?? [])
    default: throw failure("an unknown escape in a JSON string")
    }
  }

  private mutating func hexadecimal() throws(SurgeryError) -> UInt32 {
    guard position + 4 <= bytes.count else { throw failure("a JSON string is not closed") }
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = Character(UnicodeScalar(bytes[position])).hexDigitValue else {
        throw failure("a \\u escape without four hexadecimal digits")
      }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }

  /// Scans a number and returns its text, which follows the grammar.
  mutating func number() throws(SurgeryError) -> String {
    _ = peek()
    let start = position
    skip(UInt8(ascii: "-"))
    if !skip(UInt8(ascii: "0")) {
      guard digits() else { throw failure("a JSON value is expected") }
    }
    if skip(UInt8(ascii: ".")), !digits() {
      throw failure("a JSON number without digits after '.'")
    }
    if skip(UInt8(ascii: "e")) || skip(UInt8(ascii: "E")) {
      if !skip(UInt8(ascii: "+")) { skip(UInt8(ascii: "-")) }
      if !digits() { throw failure("a JSON number without digits in its exponent") }
    }
    if position < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position]) {
      throw failure("a JSON number with a leading zero")
    }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  /// Scans a number that must be a plain non-negative integer below 2^64.
  mutating func unsignedInteger() throws(SurgeryError) -> UInt64 {
    _ = peek()
    if let value = shortInteger() { return value }
    let start = position
    guard let first = peek(), (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
      throw failure("a non-negative integer is expected")
    }
    let text = try number()
    guard let value = UInt64(text) else {
      position = start
      throw failure("a non-negative integer below 2^64 is expected, found \(text.prefix(40))")
    }
    return value
  }

  /// Scans an integer of up to 19 digits, the common case; leaves everything else to `number`.
  private mutating func shortInteger() -> UInt64? {
    var value: UInt64 = 0
    var end = position
    while end < bytes.count, case let digit = bytes[end] &- UInt8(ascii: "0"), digit <= 9 {
      if end - position == 19 { return nil }
      value = value * 10 + UInt64(digit)
      end += 1
    }
    guard end > position, bytes[position] != UInt8(ascii: "0") || end == position + 1,
      end < bytes.count, bytes[end] == UInt8(ascii: ",") || bytes[end] == UInt8(ascii: "]")
    else { return nil }
    position = end
    return value
  }

  @discardableResult
  private mutating func skip(_ byte: UInt8) -> Bool {
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }

  private mutating func digits() -> Bool {
    let start = position
    while position < bytes.count,
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position])
    { position += 1 }
    return position > start
  }

  /// Scans one of the words `true`, `false` and `null`.
  mutating func word(_ word: StaticString) throws(SurgeryError) {
    _ = peek()
    let text = String(describing: word).utf8
    guard bytes[position...].starts(with: text) else { throw failure("a JSON value is expected") }
    position += text.count
  }
}

/// The keys of one object so far; the few of a tensor's entry are compared one by one, which needs no hashing.
private struct KeySet {
  private var few: [TensorName] = []
  private var many = Set<TensorName>()

  /// Adds a key; returns false where it is there already.
  mutating func insert(_ key: TensorName) -> Bool {
    guard few.count >= 8 else {
      if few.contains(key) { return false }
      if few.isEmpty { few.reserveCapacity(8) }
      few.append(key)
      if few.count == 8 {
        // Who has so many keys has as many as tensors; growing step by step would hash each of them again and again.
        many = Set(minimumCapacity: 1024)
        many.formUnion(few)
      }
      return true
    }
    return many.insert(key).inserted
  }
}
