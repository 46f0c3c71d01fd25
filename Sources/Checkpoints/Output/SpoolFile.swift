import Synchronization
import SystemPackage
public import Tensors

/// A nameless file for results that must be known whole before they can be laid out.
///
/// Extraction, resizing and combining find ranks while they compute; what they compute waits here instead of in memory, and
/// nothing is left behind whatever happens.
public final class SpoolFile: Sendable {
  private let descriptor: FileDescriptor
  private let folder: FilePath
  private let end = Atomic<UInt64>(0)

  /// Creates a spool in a folder, normally that of the output: where the result fits, its parts fit too.
  ///
  /// - Parameter path: A path in the folder to use.
  /// - Throws: `io.write` or `output.…`.
  public init(beside path: String) throws(SurgeryError) {
    let parent = FilePath(path).removingLastComponent()
    folder = parent.isEmpty ? "." : parent
    do { descriptor = try FileSystem.openNameless(in: folder) } catch {
      throw SurgeryError.writing(path, "create", error)
    }
  }

  deinit { try? descriptor.close() }

  /// Appends a tensor's bytes; any thread.
  ///
  /// - Parameters:
  ///   - bytes: The elements in row-major order, little-endian.
  ///   - info: What they are; `info.byteCount` is their number.
  /// - Returns: The tensor, to be read like any other.
  /// - Throws: `io.write` or `output.no-space`.
  public func append(_ bytes: RawSpan, as info: TensorInfo) throws(SurgeryError) -> StoredTensor {
    precondition(
      bytes.byteCount == info.byteCount, "\(info) does not take \(bytes.byteCount) bytes")
    let offset = try append(bytes)
    return StoredTensor(
      info: info,
      source: PlainSource(file: try input(), offset: offset))
  }

  /// Appends bytes; any thread.
  ///
  /// - Parameter bytes: What to append.
  /// - Returns: Their position.
  /// - Throws: `io.write` or `output.no-space`.
  public func append(_ bytes: RawSpan) throws(SurgeryError) -> UInt64 {
    let offset = end.wrappingAdd(UInt64(bytes.byteCount), ordering: .relaxed).oldValue
    let error = unsafe bytes.withUnsafeBytes { buffer -> Errno? in
      do {
        _ = try unsafe descriptor.writeAll(toAbsoluteOffset: Int64(offset), buffer)
        return nil
      } catch {
        return (error as? Errno) ?? .ioError
      }
    }
    if let error {
      throw SurgeryError.writing(folder.string, "write of intermediate results", error)
    }
    return offset
  }

  /// The spool as a file to read.
  ///
  /// - Throws: `io.read`.
  public func input() throws(SurgeryError) -> InputFile {
    try InputFile(sharing: descriptor, spool: self)
  }
}
