import Foundation
import Testing

/// The manual pages in man/ are what the declarations and the sections written by hand give.
struct ManualTests {
  private static let folder = Command.repository + "/man"

  /// With `RECORD_MANUAL` set, as `make man` does, the pages are written instead of compared.
  @Test func pagesSayWhatTheDeclarationsSay() throws {
    let program = try CommandDescription.ofProgram()
    let commands = [(program, nil)] + program.ownSubcommands.map { ($0, Optional(program)) }
    for (command, parent) in commands {
      let name = ([parent?.commandName, command.commandName] as [String?])
        .compactMap(\.self).joined(separator: "-")
      let sections = try Self.sections(of: name)
      #expect(sections["DESCRIPTION"] != nil, "man/sections/\(name).mdoc lacks a DESCRIPTION")
      #expect(sections["EXAMPLES"] != nil, "man/sections/\(name).mdoc lacks EXAMPLES")
      let page = ManualPage(command, of: parent, sections: sections)
      let path = "\(Self.folder)/\(page.name).1"
      if ProcessInfo.processInfo.environment["RECORD_MANUAL"] != nil {
        try Data(page.text.utf8).write(to: URL(fileURLWithPath: path))
      } else {
        let stored = try? String(contentsOfFile: path, encoding: .utf8)
        #expect(stored == page.text, "man/\(page.name).1 is out of date: run make man")
      }
    }
  }

  @Test func helpOpensWithASentenceAndTwoExamples() throws {
    for command in try CommandDescription.ofProgram().ownSubcommands {
      #expect(command.abstract.hasSuffix("."), "\(command.commandName)")
      #expect(Examples.inHelp(of: command).count >= 2, "\(command.commandName)")
      for argument in command.arguments ?? [] where argument.shouldDisplay {
        #expect(argument.abstract?.isEmpty == false, "\(command.commandName) \(argument)")
      }
    }
  }

  /// The parts of a file of hand-written sections, by their titles.
  private static func sections(of name: String) throws -> [String: [String]] {
    let text = try String(contentsOfFile: "\(folder)/sections/\(name).mdoc", encoding: .utf8)
    var sections: [String: [String]] = [:]
    var title = ""
    for line in text.split(separator: "\n") {
      if line.hasPrefix(".Sh ") {
        title = String(line.dropFirst(4))
        sections[title] = []
      } else {
        sections[title, default: []].append(String(line))
      }
    }
    return sections
  }
}
