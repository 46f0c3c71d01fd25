/// The help of a command with its own options before those that it shares with others.
enum HelpText {
  /// Moves the section of untitled options, which the parser writes after the titled ones, up to where the sections begin.
  ///
  /// The line of usage names options in general where it would be wider than `width` with each of them.
  static func arranged(_ help: String, width: Int) -> String {
    var sections: [[Substring]] = [[]]
    for line in help.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("USAGE: "), line.count > width {
        sections[sections.count - 1] += shortened(line, to: width)
        continue
      }
      if isTitle(line) { sections.append([]) }
      sections[sections.count - 1].append(line)
    }
    guard let own = sections.firstIndex(where: { $0.first == "OPTIONS:" }),
      let place = sections.firstIndex(where: { $0.first.map(isTitled) ?? false }), place < own
    else { return sections.joined().joined(separator: "\n") }
    var moved = sections.remove(at: own)
    if own == sections.count {
      // What was the last section ends without an empty line.
      if moved.last?.isEmpty != true { moved.append("") }
      sections.insert(moved, at: place)
      while sections[own].last?.isEmpty == true { sections[own].removeLast() }
    } else {
      sections.insert(moved, at: place)
    }
    return sections.joined().joined(separator: "\n")
  }

  private static func shortened(_ usage: Substring, to width: Int) -> [Substring] {
    let short = usage.replacing(#/ \[-[^\]]*\]/#, with: "")
    let words = short.split(separator: " ")
    let hasOptions = short.count < usage.count
    let whole = words.prefix(3) + (hasOptions ? ["[<options>]"] : []) + words.dropFirst(3)
    let indent = "USAGE: "
    return TextTable.wrapped(whole.dropFirst().joined(separator: " "), to: width - indent.count)
      .enumerated()
      .map { ($0 == 0 ? indent : String(repeating: " ", count: indent.count)) + $1 }
      .map { $0[...] }
  }

  /// Titles are capitals up to a colon at the very end.
  private static func isTitle(_ line: Substring) -> Bool {
    line.last == ":" && line.first?.isUppercase == true && line.allSatisfy { !$0.isLowercase }
  }

  private static func isTitled(_ line: Substring) -> Bool {
    isTitle(line) && line != "ARGUMENTS:" && !line.hasSuffix("SUBCOMMANDS:")
  }
}
