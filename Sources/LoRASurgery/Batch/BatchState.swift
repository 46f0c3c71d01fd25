import Checkpoints
import Tensors

/// What earlier runs of a recipe did, as recorded beside it.
struct BatchState: Sendable {
  /// A job that was finished.
  struct Record {
    var words: [String]
    /// Paths as the recipe has them, with the digests of what was there.
    var inputs: [String: String]
    var outputs: [String: String]
    var bytesRead: Int
    var bytesWritten: Int
    var seconds: Double
  }

  let path: String
  private let contents: Journal.Contents
  private var byWords: [[String]: Record] = [:]
  private var byOutput: [String: [String]] = [:]
  private var begun: Set<String> = []
  /// When the state was written that had to be set aside.
  private(set) var lost: Int64?

  /// The first line of the file: it holds for one version of the program only, as another may write other bytes.
  private static var header: JSONValue {
    .object([
      .init("lora-surgery", .string("batch state")), .init("format", .integer(1)),
      .init("version", .string(Version.current)),
    ])
  }

  static func path(beside recipe: String) -> String { recipe + ".state.jsonl" }

  /// Reads the file beside a recipe, if there is one, and leaves it alone.
  init(beside recipe: String) throws(SurgeryError) {
    path = Self.path(beside: recipe)
    contents = try Journal.read(path, header: Self.header)
    if contents.damage != nil { lost = contents.modified }
    for entry in contents.entries {
      for output in entry["begun"]?.elements ?? [] { output.text.map { _ = begun.insert($0) } }
      if let record = entry["finished"].flatMap(Record.init) { add(record) }
    }
  }

  /// Opens the file to add to it; sets it aside where it cannot be continued.
  func open() throws(SurgeryError) -> Journal {
    try Journal(path, header: Self.header, continuing: contents)
  }

  /// What the user should know of the file.
  func warnings(_ journal: Journal?) -> [String] {
    guard let damage = contents.damage else { return [] }
    let place = journal?.setAside.map { "set aside as \($0)" } ?? "it will be set aside"
    return ["\(path): \(damage); \(place), and every job runs again"]
  }

  private mutating func add(_ record: Record) {
    for output in record.outputs.keys {
      begun.remove(output)
      // An output has one origin: what was asked for before is no longer there.
      if let other = byOutput.updateValue(record.words, forKey: output), other != record.words {
        byWords[other] = nil
      }
    }
    byWords[record.words] = record
  }

  /// The job of these words, where it was finished.
  func record(of words: [String]) -> Record? { byWords[words] }

  /// The job that wrote an output last.
  func record(ofOutput path: String) -> Record? { byOutput[path].flatMap { byWords[$0] } }

  /// Whether a job was begun that writes this output, and not finished.
  func wasBegun(_ output: String) -> Bool { begun.contains(output) }

  /// Bytes read a second by the finished jobs of a command, where there were any.
  func rate(of command: String) -> Double? {
    var (bytes, seconds) = (0.0, 0.0)
    for record in byWords.values where record.words.first == command {
      bytes += Double(record.bytesRead)
      seconds += record.seconds
    }
    return bytes > 0 && seconds > 0 ? bytes / seconds : nil
  }

  /// The line that says which outputs are about to be written.
  static func begin(_ outputs: [String]) -> JSONValue {
    .object([.init("begun", .array(outputs.map { .string($0) }))])
  }
}

extension BatchState.Record {
  fileprivate init?(_ value: JSONValue) {
    guard let words = value["words"]?.elements?.compactMap(\.text), !words.isEmpty,
      let inputs = value["inputs"]?.members, let outputs = value["outputs"]?.members
    else { return nil }
    self.words = words
    self.inputs = Self.digests(inputs)
    self.outputs = Self.digests(outputs)
    bytesRead = value["bytes_read"]?.integer ?? 0
    bytesWritten = value["bytes_written"]?.integer ?? 0
    seconds = value["seconds"]?.double ?? 0
  }

  private static func digests(_ members: [JSONValue.Member]) -> [String: String] {
    Dictionary(members.map { ($0.key, $0.value.text ?? "") }, uniquingKeysWith: { $1 })
  }

  /// The line that says that the job is finished.
  var line: JSONValue {
    func members(_ digests: [String: String]) -> JSONValue {
      .object(digests.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value)) })
    }
    return .object([
      .init(
        "finished",
        .object([
          .init("words", .array(words.map { .string($0) })), .init("inputs", members(inputs)),
          .init("outputs", members(outputs)), .init("bytes_read", .integer(bytesRead)),
          .init("bytes_written", .integer(bytesWritten)), .init("seconds", .double(seconds)),
        ]))
    ])
  }
}

extension Fingerprint {
  /// The digest as the state file has it.
  var text: String { String(digest, radix: 16) }
}
