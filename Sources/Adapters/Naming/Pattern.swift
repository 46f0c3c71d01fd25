public import Tensors

/// A regular expression that matches in time proportional to text times pattern, whatever it says.
///
/// Patterns come from adapters' configurations, where an expression that backtracks for ever would hang the program, as
/// it hangs PEFT. All states are advanced together (Thompson 1968, doi:10.1145/363347.363387). Read are: literals, `.`,
/// classes, `\d \w \s` and their negations, groups without capture, `|`, `* + ? {m,n}`, `^` and `$`, in the syntax of
/// Python's `re`; look-around and back-references are refused.
public struct Pattern: Sendable {
  /// The text of the expression.
  public let text: String
  private let program: [PatternInstruction]
  /// The bytes of an expression that is a path, in which a dot stands for any character.
  private let path: [UInt8]?

  /// Compiles an expression.
  ///
  /// - Parameter text: The expression.
  /// - Throws: `pattern.syntax`, or `pattern.unsupported` for what cannot be matched in linear time.
  public init(_ text: String) throws(SurgeryError) {
    self.text = text
    var parser = PatternParser(text)
    program = try parser.program()
    path = text.utf8.allSatisfy({ Self.isPathByte($0) }) ? Array(text.utf8) : nil
  }

  /// Whether the expression matches all of a path, or what follows one of its dots up to the end.
  ///
  /// This is PEFT's rule for `rank_pattern` and its kin: `re.match(r"(.*\.)?(KEY)$", path)`
  /// (peft:src/peft/utils/other.py, `get_pattern_key`).
  ///
  /// - Parameter path: A module's path.
  /// - Returns: Whether it matches.
  /// - Complexity: O(*path* · *expression*).
  public func matchesPathEnd(of path: String) -> Bool {
    if let own = self.path, let answer = Self.matches(own, endOf: path) { return answer }
    let scalars = Array(path.unicodeScalars)
    var run = PatternRun(program)
    for position in 0...scalars.count {
      if position == 0 || scalars[position - 1] == "." {
        run.start(at: position, of: scalars.count)
      }
      if position < scalars.count {
        run.consume(scalars[position], at: position, of: scalars.count)
      }
    }
    return run.matched
  }

  private static func isPathByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
      UInt8(ascii: "-"):
      true
    default: false
    }
  }

  /// Compares plain paths from the end, where most differ; `nil` for a path beyond ASCII, whose characters are not bytes.
  private static func matches(_ own: [UInt8], endOf path: String) -> Bool? {
    let bytes = path.utf8
    guard bytes.count >= own.count else { return false }
    var position = bytes.endIndex
    for byte in own.reversed() {
      position = bytes.index(before: position)
      let other = bytes[position]
      if other >= 0x80 || other == UInt8(ascii: "\n") { return nil }
      if byte != other, byte != UInt8(ascii: ".") { return false }
    }
    return position == bytes.startIndex
      || bytes[bytes.index(before: position)] == UInt8(ascii: ".")
  }

  /// Whether the expression matches anywhere in a text.
  ///
  /// - Parameter text: Any text.
  /// - Returns: Whether it matches.
  /// - Complexity: O(*text* · *expression*).
  public func matches(in text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    var run = PatternRun(program)
    for position in 0...scalars.count {
      run.start(at: position, of: scalars.count)
      if run.matched { return true }
      if position < scalars.count {
        run.consume(scalars[position], at: position, of: scalars.count)
      }
    }
    return run.matched
  }

  /// The text with every longest match, from the left, replaced.
  ///
  /// - Parameters:
  ///   - text: Any text.
  ///   - replacement: Plain text.
  /// - Returns: The changed text.
  public func replacing(in text: String, with replacement: String) -> String {
    let scalars = Array(text.unicodeScalars)
    var result = String.UnicodeScalarView()
    var position = 0
    while position <= scalars.count {
      if let end = longestMatch(in: scalars, from: position) {
        result.append(contentsOf: replacement.unicodeScalars)
        if end > position {
          position = end
          continue
        }
      }
      if position < scalars.count { result.append(scalars[position]) }
      position += 1
    }
    return String(result)
  }

  private func longestMatch(in scalars: [Unicode.Scalar], from start: Int) -> Int? {
    var run = PatternRun(program)
    run.start(at: start, of: scalars.count)
    var end = run.matched ? start : nil
    var position = start
    while position < scalars.count, !run.isDead {
      run.consume(scalars[position], at: position, of: scalars.count)
      position += 1
      if run.matched { end = position }
    }
    return end
  }
}

/// One step of a compiled expression.
enum PatternInstruction: Sendable {
  case any
  case set([ClosedRange<Unicode.Scalar>], negated: Bool)
  case split(Int, Int)
  case jump(Int)
  case assertStart
  case assertEnd
  case match

  func accepts(_ scalar: Unicode.Scalar) -> Bool {
    switch self {
    case .any: scalar != "\n"
    case .set(let ranges, let negated): ranges.contains { $0.contains(scalar) } != negated
    default: false
    }
  }
}

/// The states of an expression while it reads a text.
struct PatternRun {
  private let program: [PatternInstruction]
  private var states: [Int] = []
  private var isActive: [Bool]
  /// Whether a match ends at the current position.
  private(set) var matched = false

  init(_ program: [PatternInstruction]) {
    self.program = program
    isActive = [Bool](repeating: false, count: program.count)
  }

  var isDead: Bool { states.isEmpty }

  /// Begins a match at the current position.
  mutating func start(at position: Int, of count: Int) { add(0, position, count) }

  /// Reads one scalar.
  mutating func consume(_ scalar: Unicode.Scalar, at position: Int, of count: Int) {
    let before = states
    states.removeAll(keepingCapacity: true)
    for index in isActive.indices { isActive[index] = false }
    matched = false
    for state in before where program[state].accepts(scalar) {
      add(state + 1, position + 1, count)
    }
  }

  private mutating func add(_ first: Int, _ position: Int, _ count: Int) {
    var pending = [first]
    while let state = pending.popLast() {
      if isActive[state] { continue }
      isActive[state] = true
      switch program[state] {
      case .jump(let next): pending.append(next)
      case .split(let one, let other): pending += [other, one]
      case .assertStart: if position == 0 { pending.append(state + 1) }
      case .assertEnd: if position == count { pending.append(state + 1) }
      case .match: matched = true
      case .any, .set: states.append(state)
      }
    }
  }
}
