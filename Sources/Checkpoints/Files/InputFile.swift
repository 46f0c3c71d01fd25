import SystemPackage
public import Tensors

/// A regular file opened for positioned reads.
///
/// Its size and modification time are noted when it is opened; a file that shrinks or changes while it is read is an
/// error with a name, not a signal. The descriptor closes with the last reference.
public final class InputFile: Sendable {
  /// The path as the user named it.
  public let path: String
  /// Bytes in the file when it was opened.
  public let size: UInt64

  let descriptor: FileDescriptor
  let status: FileSystem.Status
  /// The owner of a shared descriptor, which must live as long.
  private let spool: SpoolFile?

  /// Whether both are one file on disk, whatever paths and links they were opened by.
  public func isSameFile(as other: InputFile) -> Bool { status.isSameFile(as: other.status) }

  /// Opens a file.
  ///
  /// - Parameter path: The path of a regular file, or of a link to one.
  /// - Throws: `file.missing`, `file.permission`, `file.not-regular` or `io.read`.
  public init(_ path: String) throws(SurgeryError) {
    self.path = path
    do {
      // Non-blocking, so that a FIFO does not hang the program before it is recognised.
      descriptor = try FileDescriptor.open(
        FilePath(path), .readOnly, options: [.nonBlocking, .closeOnExec])
    } catch {
      throw SurgeryError.reading(path, "open", (error as? Errno) ?? .ioError)
    }
    let opened = descriptor
    let result = Result<FileSystem.Status, Errno> { () throws(Errno) in
      try FileSystem.status(of: opened)
    }
    guard case .success(let status) = result, status.isRegularFile, status.size >= 0 else {
      try? descriptor.close()
      if case .success(let status) = result, status.isFolder {
        throw SurgeryError(
          .missingInput, "file.not-regular", "a folder where a file is expected", file: path)
      }
      throw SurgeryError(
        .missingInput, "file.not-regular", "not a regular file (a FIFO, socket or device)",
        file: path)
    }
    self.status = status
    size = UInt64(status.size)
    spool = nil
    FileSystem.adviseSequential(descriptor)
  }

  /// Lends the descriptor of a spool; the spool closes it.
  init(sharing descriptor: FileDescriptor, spool: SpoolFile) throws(SurgeryError) {
    path = "intermediate results"
    self.descriptor = descriptor
    self.spool = spool
    do { status = try FileSystem.status(of: descriptor) } catch {
      throw SurgeryError.reading(path, "fstat", error)
    }
    size = UInt64(status.size)
  }

  deinit { if spool == nil { try? descriptor.close() } }

  /// Fills `target` with the bytes that begin at `offset`.
  ///
  /// - Parameters:
  ///   - offset: Position in bytes from the start of the file.
  ///   - target: Filled completely.
  /// - Throws: `io.read`, or `io.changed` where the file has become too short.
  public func read(
    at offset: UInt64, into target: inout MutableRawSpan
  ) throws(SurgeryError) {
    let count = target.byteCount
    let outcome = unsafe target.withUnsafeMutableBytes {
      buffer -> Result<Int, Errno> in
      var done = 0
      while done < count {
        do {
          let slice = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
          let got = try unsafe descriptor.read(
            fromAbsoluteOffset: Int64(clamping: offset) + Int64(done), into: slice)
          if got == 0 { break }
          done += got
        } catch {
          return .failure((error as? Errno) ?? .ioError)
        }
      }
      return .success(done)
    }
    switch outcome {
    case .failure(let error): throw SurgeryError.reading(path, "read", error)
    case .success(count): return
    case .success(let done):
      throw SurgeryError(
        .io, "io.changed", "the file changed while reading: it is shorter than when it was opened",
        file: path, offset: offset + UInt64(done))
    }
  }

  /// Reads `count` bytes into a new array.
  ///
  /// - Parameters:
  ///   - offset: Position in bytes from the start of the file.
  ///   - count: Bytes to read; the caller has compared it with `size`.
  /// - Returns: The bytes.
  /// - Throws: As `read(at:into:)`.
  public func bytes(at offset: UInt64, count: Int) throws(SurgeryError) -> [UInt8] {
    precondition(offset + UInt64(count) <= size, "read beyond the end of \(path)")
    var array = [UInt8](repeating: 0, count: count)
    var span = array.mutableSpan
    var bytes = unsafe span.mutableBytes
    try read(at: offset, into: &bytes)
    return array
  }

  /// Fails where the file is no longer the one that was opened in size and modification time.
  ///
  /// - Throws: `io.changed` or `io.read`.
  public func checkUnchanged() throws(SurgeryError) {
    if spool != nil { return }
    let now: FileSystem.Status
    do { now = try FileSystem.status(of: descriptor) } catch {
      throw SurgeryError.reading(path, "fstat", error)
    }
    guard now.size == status.size, now.modifiedSeconds == status.modifiedSeconds,
      now.modifiedNanoseconds == status.modifiedNanoseconds
    else {
      throw SurgeryError(
        .io, "io.changed", "the file changed while reading", file: path,
        hint: "run the command again when nothing writes to the file")
    }
  }
}
