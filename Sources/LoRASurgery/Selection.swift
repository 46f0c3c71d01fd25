public import Tensors

/// Which tensors take part, by regular expressions that match anywhere in a name.
public struct Selection: Sendable, Codable, Hashable {
  /// A tensor takes part when it matches one of these, or when there are none.
  public var include: [String]
  /// A tensor that matches one of these takes no part.
  public var exclude: [String]

  /// Creates a selection; without expressions it selects everything.
  public init(include: [String] = [], exclude: [String] = []) {
    self.include = include
    self.exclude = exclude
  }

  /// The selection as a test of names.
  ///
  /// - Returns: A matcher with the expressions compiled.
  /// - Throws: `usage.regex` where an expression does not parse.
  public func matcher() throws(SurgeryError) -> NameMatcher {
    NameMatcher(
      include: try include.map(NamePattern.init), exclude: try exclude.map(NamePattern.init))
  }
}

extension Selection {
  /// Refuses a selection that leaves nothing, of which every answer would be true.
  ///
  /// - Parameter count: How many tensors were selected.
  /// - Throws: `usage.selection`.
  func requireSome(of count: Int) throws(SurgeryError) {
    guard count == 0, self != Selection() else { return }
    throw SurgeryError(
      .usage, "usage.selection", "no tensor is selected",
      expected: "a name that --include matches and --exclude does not",
      hint: "lora-surgery inspect lists the names")
  }
}

/// A compiled selection.
public struct NameMatcher {
  let include: [NamePattern]
  let exclude: [NamePattern]

  /// Whether a tensor of this name takes part.
  public func selects(_ name: TensorName) -> Bool {
    (include.isEmpty || include.contains { $0.matches(name.text) })
      && !exclude.contains { $0.matches(name.text) }
  }
}

/// A regular expression that the user gave.
public struct NamePattern {
  private let regex: Regex<AnyRegexOutput>

  /// Compiles an expression.
  ///
  /// - Parameter text: A regular expression.
  /// - Throws: `usage.regex` where it does not parse.
  public init(_ text: String) throws(SurgeryError) {
    do { regex = try Regex(text) } catch {
      throw SurgeryError(
        .usage, "usage.regex", "the regular expression does not parse", found: text)
    }
  }

  /// Whether the expression matches anywhere in `text`.
  public func matches(_ text: String) -> Bool { text.firstMatch(of: regex) != nil }
}
