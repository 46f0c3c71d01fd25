import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The two streams of the process: the result on standard output, everything else on standard error.
enum Console {
  /// Writes a part of the result.
  ///
  /// - Throws: `io.stdout` where the stream refuses; a reader that has closed its end is no failure.
  static func print(_ text: String) throws(SurgeryError) {
    if try !printUnlessClosed(text) { exit(0) }
  }

  /// Writes a part of the result, where more work is to be done even if nobody reads.
  ///
  /// - Returns: Whether the reader has left its end open.
  /// - Throws: `io.stdout` where the stream refuses.
  static func printUnlessClosed(_ text: String) throws(SurgeryError) -> Bool {
    try isTaken(put(text + "\n", to: STDOUT_FILENO))
  }

  /// Writes bytes of a result as they are.
  ///
  /// - Returns: Whether the reader has left its end open.
  /// - Throws: `io.stdout` where the stream refuses.
  static func send(_ bytes: ArraySlice<UInt8>) throws(SurgeryError) -> Bool {
    try isTaken(unsafe bytes.withUnsafeBufferPointer { unsafe put($0, to: STDOUT_FILENO) })
  }

  private static func isTaken(_ code: Int32?) throws(SurgeryError) -> Bool {
    guard let code else { return true }
    if code == EPIPE { return false }
    throw SurgeryError(
      .io, "io.stdout",
      "writing to standard output failed: \(unsafe String(cString: strerror(code)))")
  }

  /// Writes a line beside the result; what cannot be said is not an error.
  static func note(_ text: String) { log(LogEntry(.note, text)) { text } }

  /// Writes a line about something that deserves a look.
  static func warn(_ text: String) {
    log(LogEntry(.warning, text)) {
      painted("warning:", .warning) + " " + DisplayText.escaped(text, limit: 400)
    }
  }

  /// Writes the one line of an error, and its hint.
  static func report(_ error: SurgeryError) {
    log(LogEntry(error)) { lines("\(error)", hint: error.hint) }
  }

  /// Writes the one line of an error whose parts are in its message already, and its hint.
  static func report(id: String, _ message: String, hint: String?) {
    var entry = LogEntry(.error, message)
    entry.id = id
    entry.hint = hint
    log(entry) { lines(message, hint: hint) }
  }

  private static func lines(_ message: String, hint: String?) -> String {
    painted("lora-surgery: error:", .error) + " " + message
      + (hint.map { "\n" + painted("hint:", .hint) + " " + DisplayText.escaped($0, limit: 400) }
        ?? "")
  }

  /// Writes a line to standard error in the form that was asked for.
  static func log(_ entry: LogEntry, text: () -> String) {
    switch ConsoleStyle.current.logFormat {
    case .text: _ = put((isTerminal ? clearedLine : "") + text() + "\n", to: STDERR_FILENO)
    case .json:
      if let line = try? ReportJSON.text(entry) { _ = put(line + "\n", to: STDERR_FILENO) }
    }
  }

  /// Draws a line over the last one; without wrapping, so that it stays one line where a terminal is narrower than it says.
  static func redraw(_ line: String) {
    _ = put(clearedLine + "\u{1B}[?7l" + line + "\u{1B}[?7h", to: STDERR_FILENO)
  }

  /// Takes the line that was drawn away.
  static func clearLine() { _ = put(clearedLine, to: STDERR_FILENO) }

  private static let clearedLine = "\r\u{1B}[2K"

  private static func painted(_ text: String, _ paint: ConsoleStyle.Paint) -> String {
    ConsoleStyle.current.painted(text, paint, isTerminal: isTerminal)
  }

  /// The head of a table on standard output.
  static func heading(_ text: String) -> String {
    ConsoleStyle.current.painted(text, .heading, isTerminal: outputIsTerminal)
  }

  /// Whether standard error is a terminal.
  static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

  /// Whether standard output is a terminal.
  static var outputIsTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

  /// Whether standard output is a terminal that shows block characters.
  static var drawsBlocks: Bool { outputIsTerminal && hasUnicode }

  /// What stands for text that was cut; a terminal without Unicode gets plain points.
  static var ellipsis: String { outputIsTerminal && !hasUnicode ? "..." : "…" }

  /// Whether the locale has more than ASCII.
  private static var hasUnicode: Bool {
    let encoding =
      ["LC_ALL", "LC_CTYPE", "LANG"].lazy.compactMap(Environment.value).first?.uppercased() ?? ""
    return encoding.contains("UTF-8") || encoding.contains("UTF8")
  }

  /// Columns of the terminal: what COLUMNS says, then the terminal itself; 80 where neither says something likely.
  static var width: Int {
    let likely = 20...1000
    if let columns = Environment.value("COLUMNS").flatMap({ Int($0) }), likely.contains(columns) {
      return columns
    }
    var size = winsize()
    for stream in [STDOUT_FILENO, STDERR_FILENO]
    where unsafe ioctl(stream, UInt(TIOCGWINSZ), &size) == 0 && likely.contains(Int(size.ws_col)) {
      return Int(size.ws_col)
    }
    return 80
  }

  /// Returns the errno of a failed write.
  private static func put(_ text: String, to stream: Int32) -> Int32? {
    var text = text
    return text.withUTF8 { unsafe put($0, to: stream) }
  }

  private static func put(_ bytes: UnsafeBufferPointer<UInt8>, to stream: Int32) -> Int32? {
    var done = 0
    while done < bytes.count {
      let count = unsafe write(
        stream, bytes.baseAddress.map { unsafe $0 + done }, bytes.count - done)
      if count > 0 { done += count } else if errno != EINTR { return errno }
    }
    return nil
  }
}
