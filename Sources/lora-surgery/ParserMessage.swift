import Tensors

/// What the parser of the command line says of a mistake, which is prose for a terminal of its own.
struct ParserMessage {
  private let text: String

  init(_ message: String) {
    text = message.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  /// The mistake in the form that all errors have.
  ///
  /// - Parameters:
  ///   - words: The command line.
  ///   - hint: What helps where nothing better is known.
  /// - Returns: `usage.arguments`, with what was expected and found where the parser tells.
  func error(words: some Collection<String>, hint: String) -> SurgeryError {
    if let refusal = refusedValue(hint: hint) { return refusal }
    return SurgeryError(
      .usage, "usage.arguments", text.prefix(1).lowercased() + text.dropFirst(),
      hint: dashedValue(among: words).map {
        "\($0) passes a value that begins with a dash"
      } ?? hint)
  }

  /// A value that its option cannot take: `The value 'V' is invalid for '--option <form>'`, then those that it can.
  private func refusedValue(hint: String) -> SurgeryError? {
    let form =
      #/The value '(.*)' is invalid for '([^' ]+)(?: <(.*)>)?'(?:\. Please provide one of (.*))?/#
    guard let match = text.wholeMatch(of: form) else { return nil }
    let (value, option) = (String(match.output.1), match.output.2)
    let expected =
      match.output.4.map(Self.values) ?? Self.meaning(ofForm: match.output.3 ?? "", found: value)
    return SurgeryError(
      .usage, "usage.arguments", "\(option) has a value that it cannot take",
      expected: expected, found: value, hint: hint)
  }

  /// The values of a list.
  ///
  /// It is `the following: - a - b` where it is long, `'a' and 'b'.` where it is short.
  private static func values(_ list: Substring) -> String {
    let values =
      list.hasPrefix("the following:")
      ? list.split(separator: " - ").dropFirst().map(String.init)
      : list.split(separator: "'").enumerated().filter { $0.offset % 2 == 0 }.map { String($0.1) }
    return values.dropLast().joined(separator: ", ") + (values.count > 1 ? " or " : "")
      + (values.last ?? "")
  }

  private static func meaning(ofForm form: Substring, found value: String) -> String? {
    switch form {
    case "number", "level", "n": Double(value) == nil ? "a number" : "a whole number"
    case "share", "ratio", "fraction": "a number such as 0.95"
    case "size": "a size such as 512M"
    case "size|percent": "a size such as 30MB or a percentage such as 1%"
    default: nil
    }
  }

  /// The way to write a negative number, which the parser takes for an option.
  private func dashedValue(among words: some Collection<String>) -> String? {
    guard let match = text.firstMatch(of: #/^Missing value for '([^' ]+)/#) else { return nil }
    return zip(words, words.dropFirst())
      .first { $0 == match.output.1 && $1.hasPrefix("-") && Double($1) != nil }
      .map { $0.hasPrefix("--") ? "\($0)=\($1)" : "\($0)\($1)" }
  }
}
