import ArgumentParser

/// When text is coloured.
enum ColorChoice: String, ExpressibleByArgument, CaseIterable {
  case auto, always, never
}

/// How notes, progress and errors are written to standard error.
enum LogFormat: String, ExpressibleByArgument, CaseIterable {
  case text, json
}

/// How the process speaks: with colours or without, in words or in JSON.
///
/// It is read from the words of the command line before these are parsed, because the errors of parsing speak so too; the
/// parser still checks the options' values.
struct ConsoleStyle {
  /// The style of this process.
  static let current = ConsoleStyle(
    words: Array(CommandLine.arguments.dropFirst()),
    environment: Environment.value)

  let logFormat: LogFormat
  private let color: ColorChoice

  /// - Parameters:
  ///   - words: The command line without the program's name.
  ///   - environment: The value of an environment variable.
  init(words: [String], environment: (String) -> String?) {
    let words = words.prefix { $0 != "--" }
    func value<Choice: RawRepresentable<String>>(of option: String) -> Choice? {
      for (word, next) in zip(words, words.dropFirst() + [""]).reversed() {
        if word == option { return Choice(rawValue: next) }
        if word.hasPrefix(option + "=") {
          return Choice(rawValue: String(word.dropFirst(option.count + 1)))
        }
      }
      return nil
    }
    logFormat = value(of: "--log-format") ?? .text
    let asksForNone = environment("NO_COLOR") != nil
    let isDumb = environment("TERM") == "dumb"
    switch value(of: "--color") ?? ColorChoice.auto {
    case .auto: color = asksForNone || isDumb ? .never : .auto
    case let choice: color = choice
    }
  }

  /// The text in a colour, where the stream that it goes to is to be coloured.
  func painted(_ text: String, _ paint: Paint, isTerminal: Bool) -> String {
    guard color == .always || (color == .auto && isTerminal), !text.isEmpty else { return text }
    return "\u{1B}[\(paint.rawValue)m\(text)\u{1B}[0m"
  }

  /// Colours by what they say; the numbers are those of ECMA-48.
  enum Paint: String {
    case heading = "1"
    case error = "1;31"
    case warning = "1;33"
    case hint = "36"
  }
}
