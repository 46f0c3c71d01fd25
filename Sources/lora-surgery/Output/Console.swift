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
    try isTaken(write(text + "\n", to: STDOUT_FILENO))
  }

  /// Writes bytes of a result as they are.
  ///
  /// - Returns: Whether the reader has left its end open.
  /// - Throws: `io.stdout` where the stream refuses.
  static func send(_ bytes: ArraySlice<UInt8>) throws(SurgeryError) -> Bool {
    try isTaken(unsafe bytes.withUnsafeBufferPointer { unsafe write($0, to: STDOUT_FILENO) })
  }

  private static func isTaken(_ code: Int32?) throws(SurgeryError) -> Bool {
    guard let code else { return true }
    if code == EPIPE { return false }
    throw SurgeryError(
      .io, "io.stdout",
      "writing to standard output failed: \(unsafe String(cString: strerror(code)))")
  }

  /// Writes a line beside the result; what cannot be said is not an error.
  static func note(_ text: String) { _ = write(text + "\n", to: STDERR_FILENO) }

  /// Writes text beside the result as it is.
  static func noteRaw(_ text: String) { _ = write(text, to: STDERR_FILENO) }

  /// Writes the one line of an error, and its hint.
  static func report(_ error: SurgeryError) {
    note("lora-surgery: error: \(error)")
    if let hint = error.hint { note("hint: \(DisplayText.escaped(hint, limit: 400))") }
  }

  /// Whether standard error is a terminal.
  static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

  /// Whether standard output is a terminal.
  static var outputIsTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

  /// Columns of the terminal, 80 where none says so.
  static var width: Int {
    var size = winsize()
    for stream in [STDOUT_FILENO, STDERR_FILENO]
    where unsafe ioctl(stream, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col >= 20 {
      return Int(size.ws_col)
    }
    return 80
  }

  /// Returns the errno of a failed write.
  private static func write(_ text: String, to stream: Int32) -> Int32? {
    var text = text
    return text.withUTF8 { unsafe write($0, to: stream) }
  }

  private static func write(_ bytes: UnsafeBufferPointer<UInt8>, to stream: Int32) -> Int32? {
    var done = 0
    while done < bytes.count {
      let count = unsafe Glibc.write(
        stream, bytes.baseAddress.map { unsafe $0 + done }, bytes.count - done)
      if count > 0 { done += count } else if errno != EINTR { return errno }
    }
    return nil
  }
}
