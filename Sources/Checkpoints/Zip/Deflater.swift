import CZlib
import Tensors

/// A raw deflate encoder (RFC 1951) between two buffers, reused from member to member.
@safe final class Deflater {
  private let stream: UnsafeMutablePointer<z_stream>

  /// Creates an encoder.
  ///
  /// - Parameter level: 1 (fastest) to 9 (smallest).
  /// - Throws: `zip.memory`.
  init(level: Int) throws(SurgeryError) {
    unsafe stream = .allocate(capacity: 1)
    unsafe stream.initialize(to: z_stream())
    guard unsafe lora_deflate_init(stream, Int32(level), -MAX_WBITS) == Z_OK else {
      throw SurgeryError(.io, "zip.memory", "no memory to compress")
    }
  }

  deinit {
    unsafe deflateEnd(stream)
    unsafe stream.deinitialize(count: 1)
    unsafe stream.deallocate()
  }

  /// Forgets what came before, for the next member.
  func reset() { unsafe deflateReset(stream) }

  /// Encodes all of `input`, lending what comes out piece by piece.
  ///
  /// - Parameters:
  ///   - input: The bytes; may be empty.
  ///   - isLast: Whether the stream ends with them.
  ///   - output: The buffer to use.
  ///   - emit: Receives the pieces.
  /// - Throws: What `emit` throws.
  func encode(
    _ input: borrowing RawSpan, isLast: Bool, through output: inout [UInt8],
    _ emit: (RawSpan) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    var position = 0
    let capacity = output.count
    while true {
      let count = min(input.byteCount - position, 1 << 30)
      let piece = input.extracting(position..<position + count)
      let ends = isLast && position + count == input.byteCount
      let left = unsafe piece.withUnsafeBytes { source in
        unsafe output.withUnsafeMutableBytes { target in
          unsafe stream.pointee.next_in = UnsafeMutablePointer(
            mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
          unsafe stream.pointee.avail_in = uInt(source.count)
          unsafe stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
          unsafe stream.pointee.avail_out = uInt(target.count)
          _ = unsafe deflate(stream, ends ? Z_FINISH : Z_NO_FLUSH)
          return unsafe (input: stream.pointee.avail_in, output: stream.pointee.avail_out)
        }
      }
      position += count - Int(left.input)
      let produced = capacity - Int(left.output)
      if produced > 0 { try unsafe emit(output.span.extracting(0..<produced).bytes) }
      // Room left over means that the encoder has nothing more to give.
      if position == input.byteCount, produced < capacity { return }
    }
  }
}

/// The library that deflate streams go through.
public enum DeflateLibrary {
  /// Its name and version, as `zlib 1.2.13`.
  public static var version: String { unsafe "zlib " + String(cString: zlibVersion()) }
}
