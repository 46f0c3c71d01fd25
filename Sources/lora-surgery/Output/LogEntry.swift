import Tensors

/// One line of standard error: in words, or with `--log-format json` as an object.
struct LogEntry: Encodable {
  enum Level: String, Encodable {
    case error, warning, note, progress
  }

  var level: Level
  var message: String
  var id: String?
  var file: String?
  var tensor: String?
  var expected: String?
  var found: String?
  var byte: UInt64?
  var hint: String?
  var phase: String?
  var done: Int?
  var total: Int?
  var seconds: Double?

  init(_ level: Level, _ message: String) {
    self.level = level
    self.message = message
  }

  init(_ error: SurgeryError) {
    self.init(.error, error.what)
    id = error.id
    file = error.file
    tensor = error.tensor
    expected = error.expected
    found = error.found
    byte = error.offset
    hint = error.hint
  }
}
