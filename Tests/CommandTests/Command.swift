import Foundation

/// One run of the built program.
struct Command {
  let status: Int32
  /// Standard output as it is.
  let bytes: Data
  let errors: String

  /// Standard output as text.
  var output: String { String(decoding: bytes, as: UTF8.self) }

  /// Runs the program to its end.
  init(_ words: String...) throws { try self.init(words: words) }

  /// Runs the program to its end.
  ///
  /// - Parameters:
  ///   - words: The command line.
  ///   - input: What the program reads from standard input.
  ///   - environment: Variables beside those of the tests.
  ///   - readsOutput: Whether standard output has a reader; if not, its pipe is closed from the beginning.
  /// - Throws: What starting the program throws.
  init(
    words: [String], input: String? = nil, environment: [String: String] = [:],
    readsOutput: Bool = true
  ) throws {
    let process = Process()
    process.executableURL = Self.program
    process.arguments = words
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let (output, errors, text) = (Pipe(), Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = input == nil ? FileHandle.nullDevice : text.fileHandleForReading
    if !readsOutput { try output.fileHandleForReading.close() }
    try process.run()
    if let input {
      let writing = text.fileHandleForWriting
      Thread.detachNewThread {
        try? writing.write(contentsOf: Data(input.utf8))
        try? writing.close()
      }
    }
    // The other pipe stays far below its capacity, so reading one after the other cannot block.
    bytes = readsOutput ? output.fileHandleForReading.readDataToEndOfFile() : Data()
    let said = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    status = process.terminationReason == .exit ? process.terminationStatus : -1
    self.errors = String(decoding: said, as: UTF8.self)
  }

  /// Starts the program, whose words nobody reads.
  static func start(_ words: String...) throws -> Process {
    let process = Process()
    process.executableURL = program
    process.arguments = words
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    return process
  }

  /// The report that was printed as JSON.
  func json() throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any] ?? [:]
  }

  /// The program lies beside the tests that were built with it.
  private static var program: URL { URL(fileURLWithPath: folder + "/lora-surgery") }

  /// The folder of the built program.
  static var folder: String {
    URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path
  }

  /// The folder of the repository.
  static var repository: String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().path
  }

  /// A file or folder of the repository's fixtures.
  static func fixture(_ name: String) -> String { "\(repository)/fixtures/\(name)" }
}

/// A folder that goes with the last reference.
final class TemporaryFolder: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/lora-surgery-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func callAsFunction(_ name: String) -> String { path + "/" + name }
}
