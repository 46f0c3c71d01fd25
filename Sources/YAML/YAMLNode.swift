/// One value of a YAML document, with the place where it stands.
public struct YAMLNode: Sendable {
  /// A place in a text, for messages; both count from 1.
  public struct Mark: Sendable, Hashable, CustomStringConvertible {
    /// The line.
    public var line: Int
    /// The column, in characters.
    public var column: Int

    /// Names a place.
    public init(line: Int, column: Int) {
      self.line = line
      self.column = column
    }

    /// The place in words.
    public var description: String { "line \(line), column \(column)" }
  }

  /// A key of a mapping with its value.
  public struct Entry: Sendable {
    /// The key.
    public var key: String
    /// Where the key stands.
    public var mark: Mark
    /// The value.
    public var value: YAMLNode
  }

  /// What a node holds.
  public enum Content: Sendable {
    /// Text, and whether it was written without quotes.
    case scalar(String, isPlain: Bool)
    /// Values in order.
    case sequence([YAMLNode])
    /// Entries in the order of the text; keys are unique.
    case mapping([Entry])
  }

  /// What the node holds.
  public var content: Content
  /// Where it begins.
  public var mark: Mark
  /// Nodes that it consists of, with all that its aliases stand for.
  var weight: Int

  /// The text, where this is a scalar other than null.
  public var text: String? {
    if case .scalar(let text, _) = content, !isNull { text } else { nil }
  }

  /// The values, where this is a sequence.
  public var elements: [YAMLNode]? {
    if case .sequence(let elements) = content { elements } else { nil }
  }

  /// The entries, where this is a mapping.
  public var entries: [Entry]? {
    if case .mapping(let entries) = content { entries } else { nil }
  }

  /// Whether nothing is given: an unquoted null, `~` or no text at all (YAML 1.2.2, section 10.3.2).
  public var isNull: Bool {
    guard case .scalar(let text, isPlain: true) = content else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(text)
  }

  /// The truth value, where this is an unquoted `true`, `false`, or YAML 1.1's `yes` or `no`.
  public var flag: Bool? {
    guard case .scalar(let text, isPlain: true) = content else { return nil }
    switch text {
    case "true", "True", "TRUE", "yes", "Yes", "YES": return true
    case "false", "False", "FALSE", "no", "No", "NO": return false
    default: return nil
    }
  }
}
