import Checkpoints
import Tensors

/// The options and operands of a command, as its declaration has them.
struct CommandWords {
  /// One option or operand.
  struct Word {
    enum Kind: Equatable {
      case flag
      case option
      /// The place among the operands.
      case operand(Int)
    }

    var name: String
    var kind: Kind
    var isRepeating: Bool
    /// Whether values may be weighed, as `adapter:0.5`.
    var isWeighted: Bool
  }

  private let words: [String: Word]

  /// Options of a run of the program, which a job has no say in.
  private static let ofRuns: Set = [
    "color", "dry-run", "files-from", "help", "json", "log-format", "newer", "null", "part",
    "parts", "quiet",
    "skip-existing", "suffix", "verbose", "version",
  ]

  /// Reads ArgumentParser's description of a command, which is JSON.
  init(describedBy dump: String) throws(SurgeryError) {
    let description = try JSONValue(parsing: Array(dump.utf8))
    var words: [String: Word] = [:]
    var operands = 0
    for argument in description["command"]?["arguments"]?.elements ?? [] {
      let value = argument["valueName"]?.text ?? ""
      let isRepeating = argument["isRepeating"]?.flag ?? false
      var names = (argument["names"]?.elements ?? [])
        .filter { $0["kind"]?.text == "long" }.compactMap { $0["name"]?.text }
      var kind = argument["kind"]?.text == "flag" ? Word.Kind.flag : .option
      if argument["kind"]?.text == "positional" {
        // `adapter[:weight]` is called adapter.
        names = [String(value.prefix { $0 != "[" })]
        kind = .operand(operands)
        operands += 1
      }
      for name in names where !Self.ofRuns.contains(name) {
        words[name] = Word(
          name: name, kind: kind, isRepeating: isRepeating,
          isWeighted: value.hasSuffix("[:weight]"))
      }
    }
    self.words = words
  }

  /// The names that fields may have.
  var names: [String] {
    words.values.map { $0.isRepeating && $0.isOperand ? $0.name.pluralised : $0.name }
  }

  /// The option or operand of a name; what may be given several times also answers to its plural, and the reverse.
  func word(_ name: String) -> Word? {
    if let word = words[name] { return word }
    for other in [name.hasSuffix("s") ? String(name.dropLast()) : nil, name + "s"] {
      if let word = other.flatMap({ words[$0] }), word.isRepeating { return word }
    }
    return nil
  }

  /// Whether a name is an option of runs, not of jobs.
  static func isOfRuns(_ name: String) -> Bool { ofRuns.contains(name) }
}

extension CommandWords.Word {
  fileprivate var isOperand: Bool { if case .operand = kind { true } else { false } }
}

extension String {
  fileprivate var pluralised: String { hasSuffix("s") ? self : self + "s" }
}
