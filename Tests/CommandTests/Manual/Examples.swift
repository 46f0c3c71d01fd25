import Foundation

/// The command lines that the manual and the help show.
enum Examples {
  /// Those of a manual page: lines of its EXAMPLES that begin with a prompt.
  static func onPage(_ path: String) throws -> [String] {
    let text = try String(contentsOfFile: path, encoding: .utf8)
    var examples: [String] = []
    var isContinued = false
    for line in text.split(separator: "\n").drop(while: { $0 != ".Sh EXAMPLES" }) {
      // A backslash is written \e.
      let line = line.replacingOccurrences(of: "\\e", with: "\\")
      if isContinued {
        examples[examples.count - 1] += "\n" + line
      } else if line.hasPrefix("$ ") {
        examples.append(String(line.dropFirst(2)))
      }
      isContinued = line.hasSuffix("\\") && (isContinued || line.hasPrefix("$ "))
    }
    return examples
  }

  /// Those of a command's help.
  static func inHelp(of command: CommandDescription) -> [String] {
    (command.discussion ?? "").split(separator: "\n")
      .filter { $0.hasPrefix("  lora-surgery") }.map { $0.trimmingCharacters(in: .whitespaces) }
  }

  /// The line after one that removes what it is to write, which may be there from an earlier example; parts gather.
  static func makingRoom(for example: String) -> String {
    if example.contains("--part ") { return example }
    let words = example.split(whereSeparator: \.isWhitespace).map(String.init)
    let outputs = zip(words, words.dropFirst()).filter { option, _ in
      ["-o", "--output", "--html"].contains(option) || (option == "--undo" && words[1] == "merge")
    }
    return outputs.map { "rm -rf \($0.1)\n" }.joined() + example
  }
}
