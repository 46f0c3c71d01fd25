import ArgumentParser
import Tensors

/// Mistakes in the words of a command line, in the form that all errors have.
enum CommandLineMistakes {
  /// Refuses words that are no text: paths are text here, so such a word cannot name a file.
  ///
  /// - Throws: `usage.utf8`; `io.arguments` where Swift's runtime had nowhere to read the words from.
  static func requireText() throws(SurgeryError) {
    guard CommandLine.argc > 0 else {
      throw SurgeryError(
        .io, "io.arguments", "the words of the command line cannot be read",
        hint: "mount /proc, from which Swift's runtime takes them")
    }
    var index = 1
    while index < CommandLine.argc, let word = unsafe CommandLine.unsafeArgv[index] {
      if unsafe String(validatingCString: word) == nil {
        throw SurgeryError(
          .usage, "usage.utf8", "word \(index) of the command line is no UTF-8",
          found: unsafe String(cString: word),
          hint: "rename the file, or reach it through a link whose name is UTF-8")
      }
      index += 1
    }
  }

  /// Refuses a first word that is no command, with the command that is most like it.
  ///
  /// - Throws: `usage.command`.
  static func requireCommand(_ words: some Collection<String>) throws(SurgeryError) {
    guard let word = words.first, !word.hasPrefix("-"), !names.contains(word) else { return }
    throw SurgeryError(
      .usage, "usage.command", "unknown command", found: word,
      hint: (similar(to: word, among: names).map { "did you mean \($0)? " } ?? "")
        + "lora-surgery --help lists the commands")
  }

  /// What the parser says, as an error of ours; an unknown option comes first, since what it stands for may then be missing.
  static func error(saying message: String, words: some Collection<String>) -> SurgeryError {
    let command = commands.first { $0.configuration.commandName == words.first }
    let name = command?.configuration.commandName.map { " \($0)" } ?? ""
    let help = "lora-surgery\(name) --help shows the options"
    let options = options(of: command ?? LoRASurgeryCommand.self)
    for word in words.prefix(while: { $0 != "--" }) where word.hasPrefix("--") {
      let option = String(word.prefix { $0 != "=" })
      guard !options.contains(option) else { continue }
      return SurgeryError(
        .usage, "usage.option", "unknown option", found: option,
        hint: (similar(to: option, among: options).map { "did you mean \($0)? " } ?? "") + help)
    }
    return ParserMessage(message).error(words: words, hint: help)
  }

  private static var commands: [any ParsableCommand.Type] {
    LoRASurgeryCommand.configuration.subcommands
  }

  private static var names: [String] {
    commands.compactMap { $0.configuration.commandName } + ["help"]
  }

  /// The long options of a command, which are the first words of its help's lines, after a short one.
  private static func options(of command: any ParsableCommand.Type) -> [String] {
    command.helpMessage(columns: 1000).split(separator: "\n").flatMap { line in
      line.split(separator: " ").prefix(2).filter { $0.hasPrefix("--") }.map(String.init)
    } + ["--version", "--help", "--generate-completion-script", "--experimental-dump-help"]
  }

  /// The nearest word within a third of its letters, or one that begins as the word does.
  private static func similar(to word: String, among words: [String]) -> String? {
    let near = words.map { (name: $0, distance: distance($0, word)) }
      .min { $0.distance < $1.distance }
    if let near, near.distance <= max(1, near.name.count / 3) { return near.name }
    return words.first { $0.hasPrefix(word) || word.hasPrefix($0) }
  }

  /// Insertions, deletions, replacements and swaps of neighbours between two words (Damerau 1964).
  private static func distance(_ first: String, _ second: String) -> Int {
    let (one, other) = (Array(first.prefix(100)), Array(second.prefix(100)))
    var rows = [Array(0...other.count)]
    for (line, letter) in one.enumerated() {
      var row = [line + 1]
      for (column, candidate) in other.enumerated() {
        let replaced = rows[line][column] + (letter == candidate ? 0 : 1)
        var least = min(replaced, row[column] + 1, rows[line][column + 1] + 1)
        if line > 0, column > 0, letter == other[column - 1], candidate == one[line - 1] {
          least = min(least, rows[line - 1][column - 1] + 1)
        }
        row.append(least)
      }
      rows.append(row)
    }
    return rows[one.count][other.count]
  }
}
