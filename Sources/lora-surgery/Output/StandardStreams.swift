import Checkpoints
import LoRASurgery
import SystemPackage
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A list that another program writes: a file, a pipe or standard input.
enum WholeStream {
  /// Everything to its end.
  ///
  /// - Parameter path: A path, or `-` for standard input.
  /// - Returns: The bytes.
  /// - Throws: `file.missing`, `file.permission` or `io.read`.
  static func bytes(of path: String) throws(SurgeryError) -> [UInt8] {
    do {
      if path == "-" { return try bytes(of: .standardInput) }
      let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
      return try file.closeAfter { try bytes(of: file) }
    } catch {
      switch error as? Errno {
      case .noSuchFileOrDirectory, .notDirectory:
        throw SurgeryError(.missingInput, "file.missing", "no such file", file: path)
      case .permissionDenied:
        throw SurgeryError(.permission, "file.permission", "not permitted to read", file: path)
      default:
        throw SurgeryError(.io, "io.read", "reading the list failed: \(error)", file: path)
      }
    }
  }

  private static func bytes(of file: FileDescriptor) throws -> [UInt8] {
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = try unsafe buffer.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
      if count == 0 { return all }
      all += buffer[..<count]
    }
  }
}

/// A result on its way to standard output.
///
/// It is made whole first, in a file that only this process knows: what is wrong shows before the first byte is sent, so
/// that a reader never takes half a result for one.
struct StreamedResult {
  /// Where the result is made.
  let path: String
  private let folder: String

  /// Makes a private folder in `TMPDIR`, or in `/tmp`.
  ///
  /// - Throws: `output.terminal` where a terminal would get the bytes; `output.…` where there is no place for them.
  init(format: FileFormat) throws(SurgeryError) {
    guard !Console.outputIsTerminal else {
      throw SurgeryError(
        .usage, "output.terminal", "tensors are not written to a terminal",
        hint: "send standard output to a file or another program")
    }
    let parent = Environment.value("TMPDIR") ?? "/tmp"
    var template = Array("\(parent)/lora-surgery.XXXXXX".utf8CString)
    let made = unsafe template.withUnsafeMutableBufferPointer { buffer in
      unsafe buffer.baseAddress.flatMap { unsafe mkdtemp($0) }.map { unsafe String(cString: $0) }
    }
    guard let made else {
      throw SurgeryError(
        .outputRefused, "output.temporary", "no folder for the result on its way", file: parent,
        found: unsafe String(cString: strerror(errno)), hint: "TMPDIR names another place")
    }
    folder = made
    path = "\(made)/result.\(format.fileExtension)"
  }

  /// Sends the result and forgets it.
  ///
  /// A reader that closes its end early is no failure.
  ///
  /// - Throws: `io.stdout` where the stream refuses; what reading throws.
  func send(_ interruption: Interruption) throws(SurgeryError) {
    let file = try InputFile(path)
    remove()
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    var position: UInt64 = 0
    while position < file.size {
      try interruption.check()
      let count = Int(min(file.size - position, UInt64(buffer.count)))
      try buffer.withMutableRawSpan(0..<count) { (target) throws(SurgeryError) in
        try file.read(at: position, into: &target)
      }
      guard try Console.send(buffer[..<count]) else { return }
      position += UInt64(count)
    }
  }

  /// Removes what is left of it.
  func remove() {
    unsafe unlink(path)
    unsafe rmdir(folder)
  }
}
