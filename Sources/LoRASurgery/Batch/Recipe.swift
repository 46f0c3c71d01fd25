import Checkpoints
public import Tensors
public import YAML

/// A recipe as it stands in its file: jobs whose fields are options and operands of commands by name.
public struct Recipe: Sendable {
  /// An option or operand with its value.
  public struct Field: Sendable {
    /// The long option without its dashes, or the operand's name.
    public var name: String
    /// The value as written.
    public var value: YAMLNode
    /// Where the field stands.
    public var mark: YAMLNode.Mark
  }

  /// A job, or a job for each of several items.
  public struct Step: Sendable {
    /// The name by which other steps may need it.
    public var name: String?
    /// Names of steps that come first.
    public var needs: [(name: String, mark: YAMLNode.Mark)]
    /// The command.
    public var command: String
    /// Options and operands.
    public var fields: [Field]
    /// What the job is repeated for.
    public var items: YAMLNode?
    /// Whether no item at all is fine.
    public var allowsNoItems: Bool
    /// Where the job stands.
    public var mark: YAMLNode.Mark
  }

  /// The recipe's path.
  public var path: String
  /// Options that every job takes which does not set them itself.
  public var defaults: [Field] = []
  /// The jobs in the order of the file.
  public var steps: [Step] = []

  /// The folder that relative paths start from.
  public var folder: String { Places.folder(of: path) }

  /// The most bytes of a recipe.
  private static let largest: UInt64 = 64 << 20

  /// Reads a recipe.
  ///
  /// - Parameters:
  ///   - path: A file of YAML or JSON.
  ///   - commands: The names of the commands that jobs may be.
  /// - Throws: `yaml.…` for malformed text, `recipe.…` for a wrong form; both with line and column.
  public init(reading path: String, commands: [String]) throws(SurgeryError) {
    self.path = path
    do throws(SurgeryError) {
      let file = try InputFile(path)
      guard file.size <= Self.largest else {
        throw SurgeryError(
          .data, "recipe.size", "too large for a recipe", expected: "at most \(Self.largest) bytes",
          found: "\(file.size)")
      }
      try read(
        YAMLNode(parsing: try file.bytes(at: 0, count: Int(file.size))), commands: commands)
    } catch {
      throw error.inFile(path)
    }
  }

  private mutating func read(_ root: YAMLNode, commands: [String]) throws(SurgeryError) {
    var jobs: YAMLNode?
    for entry in try root.mapping("a recipe", "jobs: and perhaps defaults:") {
      switch entry.key {
      case "defaults": defaults = try entry.value.fields("defaults")
      case "jobs": jobs = entry.value
      default:
        throw .unknownWord(
          entry.key, "unknown part of a recipe", known: ["defaults", "jobs"], at: entry.mark)
      }
    }
    guard let jobs else {
      throw .recipe("jobs", "the recipe has no jobs", at: root.mark, expected: "jobs: and a list")
    }
    for node in try jobs.list("jobs") {
      steps.append(try Step(node, commands: commands))
    }
    guard !steps.isEmpty else {
      throw .recipe("jobs", "the recipe has no jobs", at: jobs.mark, expected: "a list of jobs")
    }
  }
}

extension Recipe.Step {
  /// Reads one job.
  fileprivate init(_ node: YAMLNode, commands: [String]) throws(SurgeryError) {
    (name, needs, items, allowsNoItems, mark) = (nil, [], nil, false, node.mark)
    var call: YAMLNode.Entry?
    for entry in try node.mapping("a job", "a command with its fields") {
      switch entry.key {
      case "name":
        name = try entry.value.word("name")
      case "needs":
        let nodes = entry.value.elements ?? [entry.value]
        needs = try nodes.map { node throws(SurgeryError) in (try node.word("needs"), node.mark) }
      case _ where commands.contains(entry.key):
        if let call {
          throw .recipe(
            "commands", "a second command in one job", at: entry.mark, expected: "one",
            found: "\(call.key) and \(entry.key)", hint: "begin another job with \"- \"")
        }
        call = entry
      case "for-each", "allow-empty":
        throw .recipe(
          "place", "\(entry.key) stands beside the command", at: entry.mark,
          hint: "write it among the command's fields")
      default:
        throw .unknownWord(
          entry.key, "unknown command or field of a job", known: commands + ["name", "needs"],
          at: entry.mark)
      }
    }
    guard let call else {
      throw .recipe("commands", "the job has no command", at: node.mark)
    }
    command = call.key
    fields = []
    for field in try call.value.fields(call.key) {
      switch field.name {
      case "for-each": items = field.value
      case "allow-empty":
        guard let flag = field.value.flag else {
          throw .recipe(
            "value", "allow-empty is either true or false", at: field.value.mark,
            found: field.value.text)
        }
        allowsNoItems = flag
      default: fields.append(field)
      }
    }
  }
}

extension YAMLNode {
  fileprivate func mapping(
    _ what: String, _ expected: String
  ) throws(SurgeryError) -> [Entry] {
    guard let entries else {
      throw .recipe("form", "this is not \(what)", at: mark, expected: expected)
    }
    return entries
  }

  fileprivate func list(_ what: String) throws(SurgeryError) -> [YAMLNode] {
    guard let elements else {
      throw .recipe(
        "form", "\(what) is not a list", at: mark, expected: "lines that begin with \"- \"")
    }
    return elements
  }

  fileprivate func word(_ what: String) throws(SurgeryError) -> String {
    guard let text, !text.isEmpty else {
      throw .recipe("form", "\(what) is not a word", at: mark)
    }
    return text
  }

  /// The fields of a command; a command without any has an empty value.
  fileprivate func fields(_ what: String) throws(SurgeryError) -> [Recipe.Field] {
    if isNull { return [] }
    return try mapping("a value of \(what)", "fields as in { input: a, output: b }").map {
      Recipe.Field(name: $0.key, value: $0.value, mark: $0.mark)
    }
  }
}
