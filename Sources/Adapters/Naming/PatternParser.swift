import Tensors

/// Compiles a regular expression by recursive descent.
struct PatternParser {
  /// Steps beyond this are refused: they come of counted repetitions, not of what anyone writes.
  private static let maximumProgram = 20_000
  /// Nesting beyond this is refused, so that a file cannot exhaust the stack.
  private static let maximumDepth = 64

  private let text: String
  private let scalars: [Unicode.Scalar]
  private var position = 0
  private var depth = 0

  init(_ text: String) {
    self.text = text
    scalars = Array(text.unicodeScalars)
  }

  mutating func program() throws(SurgeryError) -> [PatternInstruction] {
    let body = try alternatives()
    if position < scalars.count { throw failure("an unmatched ')'") }
    return body + [.match]
  }

  private func failure(_ what: String, unsupported: Bool = false) -> SurgeryError {
    SurgeryError(
      unsupported ? .unsupported : .data, unsupported ? "pattern.unsupported" : "pattern.syntax",
      "a regular expression has \(what)", found: String(text.prefix(80)),
      offset: UInt64(position))
  }

  private mutating func take() -> Unicode.Scalar? {
    guard position < scalars.count else { return nil }
    defer { position += 1 }
    return scalars[position]
  }

  private var next: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  /// Jumps are relative to the start of a piece while it is built, so that pieces can be moved.
  private static func shifted(
    _ piece: [PatternInstruction], by offset: Int
  ) -> [PatternInstruction] {
    piece.map { instruction in
      switch instruction {
      case .jump(let target): .jump(target + offset)
      case .split(let one, let other): .split(one + offset, other + offset)
      default: instruction
      }
    }
  }

  private mutating func alternatives() throws(SurgeryError) -> [PatternInstruction] {
    depth += 1
    defer { depth -= 1 }
    if depth > Self.maximumDepth { throw failure("too deep a nesting", unsupported: true) }
    var result = try sequence()
    while next == "|" {
      position += 1
      let right = try sequence()
      result =
        [.split(1, result.count + 2)] + Self.shifted(result, by: 1)
        + [.jump(result.count + 2 + right.count)] + Self.shifted(right, by: result.count + 2)
      try checkSize(result)
    }
    return result
  }

  private func checkSize(_ piece: [PatternInstruction]) throws(SurgeryError) {
    if piece.count > Self.maximumProgram { throw failure("too many steps", unsupported: true) }
  }

  private mutating func sequence() throws(SurgeryError) -> [PatternInstruction] {
    var result: [PatternInstruction] = []
    while let scalar = next, scalar != "|", scalar != ")" {
      result += Self.shifted(try repeated(), by: result.count)
      try checkSize(result)
    }
    return result
  }

  private mutating func repeated() throws(SurgeryError) -> [PatternInstruction] {
    var piece = try atom()
    while let scalar = next {
      let (least, most): (Int, Int?)
      switch scalar {
      case "*": (least, most) = (0, nil)
      case "+": (least, most) = (1, nil)
      case "?": (least, most) = (0, 1)
      case "{":
        guard let counts = try counts() else { return piece }
        (least, most) = counts
        position -= 1
      default: return piece
      }
      position += 1
      // A lazy or possessive mark changes which match is found, not whether there is one.
      if next == "?" { position += 1 }
      piece = try expanded(piece, least, most)
    }
    return piece
  }

  private func expanded(
    _ piece: [PatternInstruction], _ least: Int, _ most: Int?
  ) throws(SurgeryError) -> [PatternInstruction] {
    let copies = max(least, most ?? least) + 1
    guard piece.count * copies <= Self.maximumProgram else {
      throw failure("too many steps", unsupported: true)
    }
    var result: [PatternInstruction] = []
    for _ in 0..<least { result += Self.shifted(piece, by: result.count) }
    guard let most else {
      let start = result.count
      return result + [.split(start + 1, start + piece.count + 2)]
        + Self.shifted(piece, by: start + 1) + [.jump(start)]
    }
    for _ in least..<max(least, most) {
      let start = result.count
      result += [.split(start + 1, start + piece.count + 1)]
      result += Self.shifted(piece, by: start + 1)
    }
    return result
  }

  /// Reads `{m}`, `{m,}`, `{,n}` or `{m,n}`; anything else in braces is literal, as in Python.
  private mutating func counts() throws(SurgeryError) -> (Int, Int?)? {
    guard let close = scalars[position...].firstIndex(of: "}") else { return nil }
    let inner = String(String.UnicodeScalarView(scalars[(position + 1)..<close]))
    let parts = inner.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard parts.count <= 2, inner != ",", !inner.isEmpty,
      parts.allSatisfy({ $0.isEmpty || Int($0) != nil })
    else { return nil }
    let least = Int(parts[0]) ?? 0
    let most = parts.count == 1 ? least : Int(parts[1])
    if let most, most < least { throw failure("a repetition from more to less") }
    position = close + 1
    return (least, most)
  }

  private mutating func atom() throws(SurgeryError) -> [PatternInstruction] {
    guard let scalar = take() else { return [] }
    switch scalar {
    case ".": return [.any]
    case "^": return [.assertStart]
    case "$": return [.assertEnd]
    case "[": return [try bracket()]
    case "\\": return [try escape()]
    case "(":
      if next == "?" {
        guard position + 1 < scalars.count, scalars[position + 1] == ":" else {
          throw failure("a group that is more than a group", unsupported: true)
        }
        position += 2
      }
      let inner = try alternatives()
      guard take() == ")" else { throw failure("an unmatched '('") }
      return inner
    case "*", "+", "?": throw failure("nothing to repeat")
    default: return [.set([scalar...scalar], negated: false)]
    }
  }

  private static let digits: [ClosedRange<Unicode.Scalar>] = ["0"..."9"]
  private static let words: [ClosedRange<Unicode.Scalar>] = [
    "0"..."9", "A"..."Z", "_"..."_", "a"..."z",
  ]
  private static let spaces: [ClosedRange<Unicode.Scalar>] = ["\t"..."\r", " "..." "]

  private mutating func escape() throws(SurgeryError) -> PatternInstruction {
    guard let scalar = take() else { throw failure("a lone backslash") }
    switch scalar {
    case "d": return .set(Self.digits, negated: false)
    case "D": return .set(Self.digits, negated: true)
    case "w": return .set(Self.words, negated: false)
    case "W": return .set(Self.words, negated: true)
    case "s": return .set(Self.spaces, negated: false)
    case "S": return .set(Self.spaces, negated: true)
    case "A": return .assertStart
    case "Z": return .assertEnd
    case "n": return .set(["\n"..."\n"], negated: false)
    case "t": return .set(["\t"..."\t"], negated: false)
    case "0"..."9", "a"..."z", "B"..."Y":
      throw failure("the escape \\\(scalar)", unsupported: true)
    default: return .set([scalar...scalar], negated: false)
    }
  }

  private mutating func bracket() throws(SurgeryError) -> PatternInstruction {
    var ranges: [ClosedRange<Unicode.Scalar>] = []
    let negated = next == "^"
    if negated { position += 1 }
    var isFirst = true
    while let scalar = take() {
      if scalar == "]", !isFirst { return .set(ranges, negated: negated) }
      isFirst = false
      var low = scalar
      if scalar == "\\" {
        guard case .set(let inner, let inverted) = try escape(), !inverted else {
          throw failure("a negated escape in a class", unsupported: true)
        }
        guard inner.count == 1, inner[0].lowerBound == inner[0].upperBound else {
          ranges += inner
          continue
        }
        low = inner[0].lowerBound
      }
      if next == "-", position + 1 < scalars.count, scalars[position + 1] != "]" {
        position += 1
        guard let high = take(), high != "\\", high >= low else {
          throw failure("a bad range in a class")
        }
        ranges.append(low...high)
      } else {
        ranges.append(low...low)
      }
    }
    throw failure("a class that is not closed")
  }
}
