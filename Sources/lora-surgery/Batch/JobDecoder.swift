import ArgumentParser
import LoRASurgery
import Synchronization
import Tensors
import YAML

/// Turns the fields of a recipe's jobs into the words that the command line would have, and these into requests.
struct JobDecoder {
  private var known: [String: CommandWords] = [:]
  private let commands: [String: any JobCommand.Type]

  init(_ commands: [any JobCommand.Type]) {
    self.commands = Dictionary(
      commands.map { ($0.jobName, $0) }, uniquingKeysWith: { first, _ in first })
  }

  var commandNames: [String] { commands.keys.sorted() }

  /// Options that say how a job runs and not what comes out.
  private static let means: Set = ["force", "jobs", "memory"]

  /// What a call asks for.
  ///
  /// - Throws: `recipe.…` with line and column.
  mutating func decode(_ call: RecipeCall) throws(SurgeryError) -> BatchCall {
    guard let command = commands[call.command] else {
      throw SurgeryError(.bug, "bug.command", "no such command", found: call.command)
    }
    let words = try self.words(of: call.command)
    var options: [(name: String, arguments: [String])] = []
    var operands: [(place: Int, values: [String])] = []
    var given: [String: YAMLNode.Mark] = [:]
    func add(_ field: Recipe.Field, _ word: CommandWords.Word) throws(SurgeryError) {
      if let other = given.updateValue(field.mark, forKey: word.name) {
        throw .place(
          "\(field.name) stands for what line \(other.line) gives already", at: field.mark)
      }
      // An empty value takes a default back.
      if field.value.isNull { return }
      let arguments = try JobValue(field, word).arguments
      if case .operand(let place) = word.kind {
        operands.append((place, arguments))
      } else {
        options.append((word.name, arguments))
      }
    }
    for field in call.fields {
      guard let word = words.word(field.name) else {
        throw unknown(field, "unknown field of \(call.command)", known: words.names)
      }
      try add(field, word)
    }
    for field in call.defaults {
      guard let word = words.word(field.name) else {
        try checkKnown(field)
        continue
      }
      if given[word.name] == nil { try add(field, word) }
    }
    let last =
      operands.isEmpty ? [] : ["--"] + operands.sorted { $0.place < $1.place }.flatMap(\.values)
    let arguments = options.flatMap(\.arguments) + last
    let identity =
      [call.command]
      + options.filter { !Self.means.contains($0.name) }.sorted { $0.name < $1.name }
      .flatMap(\.arguments) + last
    func value(_ name: String) -> String? {
      options.first { $0.name == name }?.arguments.first.map {
        String($0.dropFirst(name.count + 3))
      }
    }
    if value("output") == "-" {
      throw .place("a job cannot write to standard output", at: call.mark)
    }
    return BatchCall(
      words: identity, jobs: value("jobs").flatMap { Int($0) }.map { max(1, $0) },
      memory: value("memory").flatMap(SizeText.bytes)
    ) { () throws(SurgeryError) in
      try Self.request(command, arguments, call)
    }
  }

  private mutating func words(of command: String) throws(SurgeryError) -> CommandWords {
    if let words = known[command] { return words }
    let words = try CommandWords(describedBy: commands[command]?._dumpHelp() ?? "")
    known[command] = words
    return words
  }

  private func unknown(
    _ field: Recipe.Field, _ what: String, known: [String]
  ) -> SurgeryError {
    if CommandWords.isOfRuns(field.name) {
      return .place(
        "\(field.name) is no field of a job", at: field.mark,
        hint: "give --\(field.name) to batch itself")
    }
    return .unknownWord(
      field.name, what, known: known + ["for-each", "allow-empty"], at: field.mark)
  }

  /// A default that one command does not have may be meant for others.
  private mutating func checkKnown(_ field: Recipe.Field) throws(SurgeryError) {
    var names: Set<String> = []
    for command in commandNames {
      let words = try words(of: command)
      if words.word(field.name) != nil { return }
      names.formUnion(words.names)
    }
    throw unknown(field, "unknown option in defaults", known: Array(names))
  }

  /// Parses the words as the command line would be.
  private static func request<Command: JobCommand>(
    _ command: Command.Type, _ arguments: [String], _ call: RecipeCall
  ) throws(SurgeryError) -> any BatchOperation {
    do {
      return try command.parse(arguments).request()
    } catch let error as SurgeryError {
      // The field whose value the message repeats.
      let field = (call.fields + call.defaults).first {
        $0.value.text != nil && $0.value.text == error.found
      }
      throw .place(
        error.what, at: field?.mark ?? call.mark, found: error.found, hint: error.hint)
    } catch {
      let message = command.message(for: error)
      // The field whose option the message names; a missing one has no place but the job's.
      let field = (call.fields + call.defaults).first { message.contains("--\($0.name)") }
      throw .place(
        message.split(separator: "\n").joined(separator: " "), at: field?.mark ?? call.mark)
    }
  }
}

/// The value of a field as words of a command line.
struct JobValue {
  let arguments: [String]

  init(_ field: Recipe.Field, _ word: CommandWords.Word) throws(SurgeryError) {
    let option = "--\(word.name)"
    if word.kind == .flag {
      guard let flag = field.value.flag else {
        throw .place(
          "\(field.name) is either true or false", at: field.value.mark, found: field.value.text)
      }
      arguments = flag ? [option] : []
      return
    }
    let values = try Self.values(of: field, word)
    if case .operand = word.kind {
      arguments = values
    } else {
      arguments = values.map { "\(option)=\($0)" }
    }
  }

  private static func values(
    of field: Recipe.Field, _ word: CommandWords.Word
  ) throws(SurgeryError) -> [String] {
    switch field.value.content {
    case .scalar: return [try text(of: field.value, field, word)]
    case .sequence(let elements):
      guard word.isRepeating else {
        throw .place("\(field.name) takes one value, not a list", at: field.value.mark)
      }
      return try elements.map { element throws(SurgeryError) in
        try text(of: element, field, word)
      }
    case .mapping(let entries):
      if word.isWeighted { return [try text(of: field.value, field, word)] }
      guard word.isRepeating else {
        throw .place("\(field.name) takes one value, not a mapping", at: field.value.mark)
      }
      return try entries.map { entry throws(SurgeryError) in
        "\(entry.key)=\(try text(of: entry.value, field, word))"
      }
    }
  }

  /// One value; an adapter may also be written with its weight apart.
  private static func text(
    of node: YAMLNode, _ field: Recipe.Field, _ word: CommandWords.Word
  ) throws(SurgeryError) -> String {
    if let text = node.text { return text }
    guard word.isWeighted, let entries = node.entries else {
      throw .place("\(field.name) takes texts and numbers here", at: node.mark)
    }
    var (path, weight): (String?, String) = (nil, "1")
    for entry in entries {
      guard let text = entry.value.text else {
        throw .place("\(entry.key) takes a text or number", at: entry.value.mark)
      }
      switch entry.key {
      case "path": path = text
      case "weight":
        guard let number = Double(text), number.isFinite else {
          throw .place("the weight is no number", at: entry.value.mark, found: text)
        }
        weight = text
      default:
        throw .unknownWord(
          entry.key, "unknown part of an adapter", known: ["path", "weight"], at: entry.mark)
      }
    }
    guard let path else { throw .place("an adapter without a path", at: node.mark) }
    return "\(path):\(weight)"
  }
}

extension SurgeryError {
  /// An error at a place of a recipe.
  fileprivate static func place(
    _ what: String, at mark: YAMLNode.Mark, found: String? = nil, hint: String? = nil
  ) -> Self {
    .recipe("value", what, at: mark, found: found, hint: hint)
  }
}
