import Foundation

/// A command as its declarations describe it: what the parser writes for `--experimental-dump-help`.
struct CommandDescription: Decodable {
  var commandName: String
  var abstract: String
  var discussion: String?
  var arguments: [Argument]?
  var subcommands: [CommandDescription]?

  struct Argument: Decodable {
    var kind: String
    var shouldDisplay: Bool
    var sectionTitle: String?
    var isOptional: Bool
    var isRepeating: Bool
    var names: [Name]?
    var valueName: String?
    var defaultValue: String?
    var allValues: [String]?
    var abstract: String?

    var isPositional: Bool { kind == "positional" }
    var isFlag: Bool { kind == "flag" }
  }

  struct Name: Decodable {
    var kind: String
    var name: String
  }

  /// The program with all its commands, as the built one describes itself.
  static func ofProgram() throws -> CommandDescription {
    struct Tool: Decodable { var command: CommandDescription }
    let run = try Command("--experimental-dump-help")
    return try JSONDecoder().decode(Tool.self, from: Data(run.output.utf8)).command
  }

  /// Commands that people see; the parser's own `help` has no page.
  var ownSubcommands: [CommandDescription] {
    (subcommands ?? []).filter { $0.commandName != "help" }
  }
}
