import Synchronization
import SystemPackage
public import Tensors

/// A file under its temporary name, written at known positions by many threads.
public final class OutputFile: Sendable {
  /// The path that the user will see.
  public let path: String
  let temporary: FilePath
  private let descriptor: FileDescriptor
  /// The same file, written past the page cache.
  private let direct: FileDescriptor?
  /// Bytes that the file will have, where known.
  private let size: UInt64?

  /// Parts of pages that wait for the end.
  ///
  /// Writing them through the page cache locks the file: all direct writes would have to end before each, and wait for it.
  private let edges = Mutex<Edges>(Edges())

  private struct Edges {
    var parts: [(offset: UInt64, bytes: [UInt8])] = []
    var byteCount = 0
  }

  /// The most bytes of `edges`.
  private static let maximumEdges = 4 << 20

  /// From this size on a file is written past the page cache where the system can: what is smaller fits there whole, is flushed
  /// in a moment, and is likely to be read again soon.
  static let directSize: UInt64 = 256 << 20

  /// Creates the temporary file and reserves its space.
  ///
  /// - Parameters:
  ///   - temporary: A name that does not exist yet.
  ///   - path: The final path, for messages.
  ///   - size: Bytes that the file will have, where known.
  ///   - directSize: The size from which it is written past the page cache.
  /// - Throws: `output.…` or `io.write`.
  convenience init(
    temporary: FilePath, path: String, size: UInt64?, directSize: UInt64 = OutputFile.directSize
  ) throws(SurgeryError) {
    do { try FileSystem.makeFile(temporary) } catch {
      throw SurgeryError.writing(path, "create", error)
    }
    try self.init(claimed: temporary, path: path, size: size, directSize: directSize)
  }

  /// Opens an empty file that was made for the output, and reserves its space.
  ///
  /// - Parameters:
  ///   - temporary: The file.
  ///   - path: The final path, for messages.
  ///   - size: Bytes that the file will have, where known.
  ///   - directSize: The size from which it is written past the page cache.
  /// - Throws: `output.…` or `io.write`.
  init(
    claimed temporary: FilePath, path: String, size: UInt64?,
    directSize: UInt64 = OutputFile.directSize
  ) throws(SurgeryError) {
    self.path = path
    self.temporary = temporary
    self.size = size
    do {
      descriptor = try FileDescriptor.open(
        temporary, .readWrite, options: [.noFollow, .closeOnExec])
    } catch {
      throw SurgeryError.writing(path, "open", (error as? Errno) ?? .ioError)
    }
    direct = size.flatMap { $0 < directSize ? nil : FileSystem.openDirect(temporary) }
    guard let size else { return }
    do { try FileSystem.reserve(Int64(clamping: size), for: descriptor) } catch {
      // What was reserved before space ran out is free again, and counts as such in the message.
      try? descriptor.resize(to: 0)
      throw failure("reserve", error)
    }
  }

  /// Gives an existing file a second name; `nil` where the file system or the file's owner does not allow that.
  init?(linking input: InputFile, temporary: FilePath, path: String, mode: UInt32) {
    guard (try? FileSystem.link(FilePath(input.path), to: temporary)) != nil else { return nil }
    // The path may lead to another file by now than the one that was opened.
    guard let opened = try? FileDescriptor.open(temporary, .readOnly, options: .closeOnExec) else {
      try? FileSystem.removeFile(temporary)
      return nil
    }
    guard (try? FileSystem.status(of: opened).isSameFile(as: input.status)) == true,
      (try? FileSystem.setMode(mode, of: opened)) != nil
    else {
      try? opened.close()
      try? FileSystem.removeFile(temporary)
      return nil
    }
    self.path = path
    self.temporary = temporary
    descriptor = opened
    direct = nil
    size = nil
  }

  deinit {
    try? descriptor.close()
    try? direct?.close()
  }

  /// Whether parts of the file should be collected and written past the page cache.
  var isDirect: Bool { direct != nil }

  private func failure(_ call: String, _ error: Errno) -> SurgeryError {
    var failure = SurgeryError.writing(path, call, error)
    if failure.id == "output.no-space" {
      failure.expected = size.map { "\($0, counting: "byte")" }
      failure.found = FileSystem.freeBytes(at: temporary.removingLastComponent()).map {
        "\($0, counting: "byte") free"
      }
    }
    return failure
  }

  /// Writes all of `bytes` at `offset`.
  ///
  /// - Parameters:
  ///   - bytes: What to write.
  ///   - offset: Position in bytes from the start of the file.
  /// - Throws: `io.write` or `output.no-space`.
  public func write(_ bytes: RawSpan, at offset: UInt64) throws(SurgeryError) {
    let error = unsafe bytes.withUnsafeBytes { unsafe Self.write($0, to: descriptor, at: offset) }
    if let error { throw failure("write", error) }
  }

  /// Writes a part of page-aligned memory, its whole pages past the page cache; what is left of it is written by ``flush(mode:)`` at
  /// the latest.
  ///
  /// - Parameters:
  ///   - memory: What to write; its first byte belongs at a multiple of `PageMemory.pageSize` in the file.
  ///   - range: Which part of it.
  ///   - offset: Position in the file of the part's first byte.
  /// - Throws: `io.write` or `output.no-space`.
  func write(_ memory: PageMemory, _ range: Range<Int>, at offset: UInt64) throws(SurgeryError) {
    let page = PageMemory.pageSize
    precondition(offset % UInt64(page) == UInt64(range.lowerBound % page), "memory is not aligned")
    let start = min(range.upperBound, (range.lowerBound + page - 1) / page * page)
    let end = max(start, range.upperBound / page * page)
    for part in [range.lowerBound..<start, end..<range.upperBound] where !part.isEmpty {
      try keep(
        unsafe memory.withBytes(part) { unsafe [UInt8]($0) },
        at: offset + UInt64(part.lowerBound - range.lowerBound))
    }
    if start == end { return }
    let position = offset + UInt64(start - range.lowerBound)
    var error = unsafe memory.withBytes(start..<end) {
      unsafe Self.write($0, to: direct ?? descriptor, at: position)
    }
    if error == .invalidArgument {
      // A file system with larger blocks, or one that takes the flag and not the writes.
      error = unsafe memory.withBytes(start..<end) {
        unsafe Self.write($0, to: descriptor, at: position)
      }
    }
    if let error { throw failure("write", error) }
  }

  private func keep(_ bytes: [UInt8], at offset: UInt64) throws(SurgeryError) {
    let isFull = edges.withLock { edges in
      edges.parts.append((offset, bytes))
      edges.byteCount += bytes.count
      return edges.byteCount >= Self.maximumEdges
    }
    if isFull { try writeEdges() }
  }

  private func writeEdges() throws(SurgeryError) {
    let edges = edges.withLock { edges in
      defer { edges = Edges() }
      return edges
    }
    for edge in edges.parts.sorted(by: { $0.offset < $1.offset }) {
      try write(edge.bytes, at: edge.offset)
    }
  }

  private static func write(
    _ buffer: UnsafeRawBufferPointer, to descriptor: FileDescriptor, at offset: UInt64
  ) -> Errno? {
    var done = 0
    while done < buffer.count {
      do {
        let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[done...])
        done += try unsafe descriptor.write(
          toAbsoluteOffset: Int64(clamping: offset) + Int64(done), rest)
      } catch {
        return (error as? Errno) ?? .ioError
      }
    }
    return nil
  }

  /// Writes all of an array at `offset`.
  ///
  /// - Parameters:
  ///   - bytes: What to write.
  ///   - offset: Position in bytes from the start of the file.
  /// - Throws: `io.write` or `output.no-space`.
  public func write(_ bytes: [UInt8], at offset: UInt64) throws(SurgeryError) {
    try unsafe write(bytes.span.bytes, at: offset)
  }

  /// Copies bytes of an input to this file, inside the kernel where that works.
  ///
  /// - Parameters:
  ///   - input: The file to copy from.
  ///   - start: Position of the first byte in `input`.
  ///   - count: Bytes to copy.
  ///   - offset: Position in this file.
  ///   - scratch: A buffer for the fallback; its size is the size of a read.
  /// - Throws: `io.read`, `io.changed`, `io.write` or `output.no-space`.
  public func copy(
    from input: InputFile, at start: UInt64, count: Int, to offset: UInt64,
    scratch: inout [UInt8]
  ) throws(SurgeryError) {
    var done = 0
    while done < count {
      let copied = FileSystem.copyRange(
        from: input.descriptor, at: start + UInt64(done), to: descriptor,
        at: offset + UInt64(done), count: count - done)
      if copied == 0 { break }
      done += copied
    }
    while done < count {
      let size = min(count - done, scratch.count)
      let position = start + UInt64(done)
      try scratch.withMutableRawSpan(0..<size) { (target) throws(SurgeryError) in
        try input.read(at: position, into: &target)
      }
      try unsafe write(scratch.span.extracting(0..<size).bytes, at: offset + UInt64(done))
      done += size
    }
  }

  /// Sets the final length; for files whose size was not known beforehand.
  ///
  /// - Parameter size: Bytes.
  /// - Throws: `io.write`.
  public func truncate(to size: UInt64) throws(SurgeryError) {
    do { try descriptor.resize(to: Int64(clamping: size)) } catch {
      throw failure("truncate", (error as? Errno) ?? .ioError)
    }
  }

  /// Writes what is left, sets the mode, flushes to disk and closes nothing yet: the descriptor closes with the object.
  func flush(mode: UInt32) throws(SurgeryError) {
    try writeEdges()
    do throws(Errno) {
      try FileSystem.setMode(mode, of: descriptor)
      try FileSystem.flush(descriptor)
    } catch {
      throw failure("flush", error)
    }
  }
}
