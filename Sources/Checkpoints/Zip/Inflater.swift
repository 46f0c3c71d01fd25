import CZlib
import Tensors

/// A raw deflate decoder (RFC 1951) between two buffers.
///
/// zlib keeps a pointer to its stream structure inside its own state, so the structure lives on the heap and never moves.
@safe final class Inflater {
  private let stream: UnsafeMutablePointer<z_stream>

  /// What one step did.
  struct Step {
    var consumed: Int
    var produced: Int
    /// Whether the deflate stream has ended.
    var isAtEnd: Bool
  }

  init() throws(SurgeryError) {
    unsafe stream = .allocate(capacity: 1)
    unsafe stream.initialize(to: z_stream())
    guard unsafe lora_inflate_init(stream, -MAX_WBITS) == Z_OK else {
      throw SurgeryError(.io, "zip.memory", "no memory to decode a compressed member")
    }
  }

  deinit {
    unsafe inflateEnd(stream)
    unsafe stream.deinitialize(count: 1)
    unsafe stream.deallocate()
  }

  /// Decodes from `input` into `output` until one of them is used up or the stream ends.
  ///
  /// - Throws: `zip.deflate` where the bytes are no deflate stream.
  func step(
    _ input: borrowing RawSpan, into output: inout MutableRawSpan
  ) throws(SurgeryError) -> Step {
    let inputCount = min(input.byteCount, 1 << 30)
    let outputCount = min(output.byteCount, 1 << 30)
    let status = unsafe input.withUnsafeBytes { source in
      unsafe output.withUnsafeMutableBytes { target in
        unsafe stream.pointee.next_in = UnsafeMutablePointer(
          mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
        unsafe stream.pointee.avail_in = uInt(inputCount)
        unsafe stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        unsafe stream.pointee.avail_out = uInt(outputCount)
        return unsafe inflate(stream, Z_NO_FLUSH)
      }
    }
    guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR else {
      throw SurgeryError(.data, "zip.deflate", "the compressed bytes are no deflate stream")
    }
    return unsafe Step(
      consumed: inputCount - Int(stream.pointee.avail_in),
      produced: outputCount - Int(stream.pointee.avail_out), isAtEnd: status == Z_STREAM_END)
  }
}
