/// A manual page in mdoc(7): what the declarations say, between sections that are written by hand.
struct ManualPage {
  /// The page's name, as `lora-surgery-extract`.
  let name: String
  let text: String

  /// - Parameters:
  ///   - command: The command.
  ///   - program: The program that it is a command of; `nil` for the program itself.
  ///   - sections: DESCRIPTION and EXAMPLES, and what else is written by hand, by title; the lines below the title.
  init(_ command: CommandDescription, of program: CommandDescription?, sections: [String: [String]])
  {
    name = ([program?.commandName, command.commandName] as [String?])
      .compactMap(\.self).joined(separator: "-")
    var lines = [
      ".\\\" Made from the command's declarations and man/sections/\(name).mdoc by `make man`.",
      ".Dd \(Self.date)", ".Dt \(name.uppercased()) 1", ".Os", ".Sh NAME", ".Nm \(name)",
    ]
    lines += [".Nd " + Self.clause(command.abstract), ".Sh SYNOPSIS"]
    lines += Self.synopsis(command, of: program)
    lines += [".Sh DESCRIPTION"] + (sections["DESCRIPTION"] ?? [])
    if program == nil {
      lines += [".Sh COMMANDS", ".Bl -tag -width Ds"]
      for each in command.ownSubcommands {
        lines += [".It Xr \(name)-\(each.commandName) 1"] + Self.sentences(each.abstract)
      }
      lines.append(".El")
    }
    lines += Self.options(of: command)
    for (title, body) in sections.sorted(by: { $0.key < $1.key })
    where !Self.orderedTitles.contains(title) {
      lines += [".Sh \(title)"] + body
    }
    lines += [".Sh EXIT STATUS"] + (sections["EXIT STATUS"] ?? Self.exitStatus)
    lines += [".Sh EXAMPLES"] + (sections["EXAMPLES"] ?? [])
    lines += [".Sh SEE ALSO"] + Self.references(name, sections["SEE ALSO"] ?? [])
    text = lines.joined(separator: "\n") + "\n"
  }

  /// The day on which the pages last changed in what they promise.
  private static let date = "November 21, 2026"

  private static let orderedTitles = ["DESCRIPTION", "EXAMPLES", "EXIT STATUS", "SEE ALSO"]

  private static let exitStatus = [
    "0 when done.", "Failures have the statuses that", ".Xr lora-surgery 1", "lists.",
  ]

  // MARK: Synopsis

  private static func synopsis(
    _ command: CommandDescription, of program: CommandDescription?
  ) -> [String] {
    guard let program else {
      return [".Nm", ".Ar command", ".Op Ar options", ".Op Ar operands"]
    }
    var lines = [".Nm \(program.commandName) \(command.commandName)"]
    let shown = (command.arguments ?? []).filter(\.shouldDisplay)
    for argument in shown where !argument.isPositional && !argument.isOptional {
      lines.append(
        ".Fl -\(longName(argument)) Ar \(argument.valueName ?? "value")"
          + (argument.isRepeating ? " ..." : ""))
    }
    lines.append(".Op Ar options")
    for argument in shown where argument.isPositional {
      let value = "Ar \(argument.valueName ?? "value")" + (argument.isRepeating ? " ..." : "")
      lines.append(argument.isOptional ? ".Op \(value)" : ".\(value)")
    }
    return lines
  }

  private static func longName(_ argument: CommandDescription.Argument) -> String {
    argument.names?.first { $0.kind == "long" }?.name ?? argument.names?.first?.name ?? ""
  }

  // MARK: Options

  private static func options(of command: CommandDescription) -> [String] {
    let shown = (command.arguments ?? []).filter(\.shouldDisplay)
    var titles: [String?] = []
    for argument in shown where !titles.contains(argument.sectionTitle) {
      titles.append(argument.sectionTitle)
    }
    // The command's own options, which have no title, come first.
    titles = titles.filter { $0 == nil } + titles.filter { $0 != nil }
    var lines = [".Sh OPTIONS"]
    for title in titles {
      if let title { lines.append(".Ss \(title)") }
      lines.append(".Bl -tag -width Ds")
      let members = shown.filter { $0.sectionTitle == title }
      for argument in members.filter(\.isPositional) + members.filter({ !$0.isPositional }) {
        lines += item(argument)
      }
      lines.append(".El")
    }
    return lines
  }

  private static func item(_ argument: CommandDescription.Argument) -> [String] {
    let names = (argument.names ?? []).sorted { $0.name.count < $1.name.count }
      .map { $0.kind == "short" ? "Fl \($0.name)" : "Fl -\($0.name)" }
    var label = names.joined(separator: " , ")
    if !argument.isFlag {
      label += (label.isEmpty ? "" : " ") + "Ar \(argument.valueName ?? "value")"
    }
    var lines = [".It \(label)"] + sentences(argument.abstract ?? "")
    if let values = argument.allValues, !values.isEmpty {
      lines += wrapped("One of " + values.joined(separator: ", ") + ".")
    }
    if let value = argument.defaultValue, !value.isEmpty { lines += wrapped("Default: \(value).") }
    return lines
  }

  // MARK: Text

  /// The abstract as the clause that follows the name: no capital, no full stop.
  private static func clause(_ abstract: String) -> String {
    let words = abstract.hasSuffix(".") ? String(abstract.dropLast()) : abstract
    return escaped(words.prefix(1).lowercased() + words.dropFirst())
  }

  /// Text with every sentence on lines of its own, as mdoc wants it.
  private static func sentences(_ text: String) -> [String] {
    var lines: [String] = []
    var sentence: [Substring] = []
    for word in text.split(separator: " ") {
      sentence.append(word)
      if word.hasSuffix(".") || word.hasSuffix(".)") {
        lines += wrapped(sentence.joined(separator: " "))
        sentence = []
      }
    }
    return lines + (sentence.isEmpty ? [] : wrapped(sentence.joined(separator: " ")))
  }

  private static func wrapped(_ text: String) -> [String] {
    var lines: [String] = []
    var line = ""
    for word in text.split(separator: " ") {
      if !line.isEmpty, line.count + word.count >= 78 {
        lines.append(line)
        line = ""
      }
      line += (line.isEmpty ? "" : " ") + word
    }
    return (lines + [line]).map(escaped)
  }

  /// Text that roff takes literally.
  private static func escaped(_ text: String) -> String {
    let text = text.split(separator: "\\", omittingEmptySubsequences: false)
      .joined(separator: "\\e")
    return text.hasPrefix(".") || text.hasPrefix("'") ? "\\&" + text : text
  }

  /// Other pages, in the order that mdoc wants: by section, then by name.
  private static func references(_ name: String, _ more: [String]) -> [String] {
    let own = ["lora-surgery 1", "lora-surgery-formats 5"].filter { $0 != "\(name) 1" }
    let pages = Set(own + more).sorted {
      ($0.last.map(String.init) ?? "", $0) < ($1.last.map(String.init) ?? "", $1)
    }
    return pages.enumerated().map { ".Xr \($1)" + ($0 + 1 < pages.count ? " ," : "") }
  }
}
