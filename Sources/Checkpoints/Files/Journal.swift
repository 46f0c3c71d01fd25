import SystemPackage
public import Tensors

/// A file of JSON values, one a line, that only grows; one process at a time may have it open.
///
/// A line counts when its line break is there: what a killed process began to write is cut off. The first line is a
/// header; a file with another one, or with a line that is no JSON, is set aside and an empty one begun.
public final class Journal: Sendable {
  /// What is in the file.
  public struct Contents: Sendable {
    /// The values after the header.
    public var entries: [JSONValue] = []
    /// Why the entries are not to be trusted, where that is so; there are none then.
    public var damage: String?
    /// When the file was last written to, in seconds since 1970.
    public var modified: Int64 = 0
    /// Bytes up to the last whole line.
    fileprivate var size = 0
    fileprivate var status: FileSystem.Status?
  }

  /// The file's path.
  public let path: String
  /// Where the file went that could not be continued.
  public let setAside: String?
  private let descriptor: FileDescriptor

  /// The most bytes that are read: entries of some hundred bytes for a million jobs.
  private static let largest: UInt64 = 1 << 30

  /// Reads a journal that may be missing, without touching it.
  ///
  /// - Parameters:
  ///   - path: The file.
  ///   - header: What its first line must say.
  /// - Returns: The entries; none where there is no file.
  /// - Throws: `journal.size`, `file.…` or `io.read`.
  public static func read(_ path: String, header: JSONValue) throws(SurgeryError) -> Contents {
    guard (try? FileSystem.status(of: FilePath(path), followingLinks: false)) != nil else {
      return Contents()
    }
    let file = try InputFile(path)
    guard file.size <= largest else {
      throw SurgeryError(
        .data, "journal.size", "too large", file: path,
        expected: "at most \(largest, counting: "byte")",
        found: "\(file.size)")
    }
    let bytes = try file.bytes(at: 0, count: Int(file.size))
    var contents = Contents()
    contents.status = file.status
    contents.modified = file.status.modifiedSeconds
    contents.size = bytes.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    for (number, line) in bytes[..<contents.size].split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false
    ).dropLast().enumerated() {
      guard let value = try? JSONValue(parsing: Array(line)) else {
        contents.damage = "line \(number + 1) is damaged"
        break
      }
      if number > 0 {
        contents.entries.append(value)
      } else if value != header {
        contents.damage =
          value.members == nil ? "line 1 is damaged" : "it is from another version"
        break
      }
    }
    // Without a whole first line nothing was recorded, unless there is text of another origin.
    if contents.size == 0, !header.text().utf8.starts(with: bytes) {
      contents.damage = "line 1 is damaged"
    }
    if contents.damage != nil { contents.entries = [] }
    return contents
  }

  /// Opens a journal to add to it, or begins one.
  ///
  /// - Parameters:
  ///   - path: The file.
  ///   - header: Its first line.
  ///   - contents: What `read` found.
  /// - Throws: `journal.busy` where another process has it open, or has changed it since it was read; `output.…` or `io.…`.
  public init(
    _ path: String, header: JSONValue, continuing contents: Contents
  ) throws(SurgeryError) {
    self.path = path
    var descriptor = try Self.open(path)
    var setAside: String?
    do throws(SurgeryError) {
      try Self.check(descriptor, is: contents, path)
      var size = contents.size
      if contents.damage != nil {
        let other = Self.unusedName(for: path)
        do throws(Errno) {
          try FileSystem.rename(FilePath(path), to: FilePath(other))
        } catch { throw SurgeryError.writing(path, "rename", error) }
        setAside = other
        try? descriptor.close()
        descriptor = try Self.open(path)
        size = 0
      }
      do { try descriptor.resize(to: Int64(size)) } catch {
        throw SurgeryError.writing(path, "truncate", (error as? Errno) ?? .ioError)
      }
      if size == 0 { try Self.append(header.text() + "\n", to: descriptor, path) }
    } catch {
      try? descriptor.close()
      throw error
    }
    self.descriptor = descriptor
    self.setAside = setAside
  }

  deinit { try? descriptor.close() }

  private static func open(_ path: String) throws(SurgeryError) -> FileDescriptor {
    // While there is one thread still: see there.
    let mode = FileSystem.defaultFileMode
    let descriptor: FileDescriptor
    do {
      descriptor = try FileDescriptor.open(
        FilePath(path), .readWrite, options: [.create, .append, .noFollow, .closeOnExec],
        permissions: FilePermissions(rawValue: .init(mode)))
    } catch {
      throw SurgeryError.writing(path, "open", (error as? Errno) ?? .ioError)
    }
    do throws(Errno) { try FileSystem.lock(descriptor) } catch {
      try? descriptor.close()
      throw busy(path)
    }
    return descriptor
  }

  private static func busy(_ path: String) -> SurgeryError {
    SurgeryError(
      .busy, "journal.busy", "another process is writing to it", file: path,
      hint: "wait until it has ended")
  }

  private static func check(
    _ descriptor: FileDescriptor, is contents: Contents, _ path: String
  ) throws(SurgeryError) {
    let now: FileSystem.Status
    do { now = try FileSystem.status(of: descriptor) } catch {
      throw SurgeryError.reading(path, "fstat", error)
    }
    if let status = contents.status {
      if now != status { throw busy(path) }
    } else if now.size > 0 {
      throw busy(path)
    }
  }

  private static func unusedName(for path: String) -> String {
    var number = 1
    while (try? FileSystem.status(of: FilePath("\(path).\(number)"), followingLinks: false)) != nil
    {
      number += 1
    }
    return "\(path).\(number)"
  }

  /// Adds entries.
  ///
  /// - Parameters:
  ///   - entries: The values, each of which becomes a line.
  ///   - flushing: Whether they are on disk when this returns.
  /// - Throws: `output.no-space` or `io.write`; the file then ends where it ended before.
  public func append(_ entries: [JSONValue], flushing: Bool = false) throws(SurgeryError) {
    try Self.append(entries.map { $0.text() + "\n" }.joined(), to: descriptor, path)
    guard flushing else { return }
    do { try FileSystem.flush(descriptor) } catch {
      throw SurgeryError.writing(path, "flush", error)
    }
  }

  private static func append(
    _ text: String, to descriptor: FileDescriptor, _ path: String
  ) throws(SurgeryError) {
    do {
      let before = try descriptor.seek(offset: 0, from: .end)
      do { _ = try descriptor.writeAll(Array(text.utf8)) } catch {
        try? descriptor.resize(to: before)
        throw error
      }
    } catch {
      throw SurgeryError.writing(path, "write", (error as? Errno) ?? .ioError)
    }
  }
}
