import CZlib
public import Tensors

/// Compression of short runs of bytes in memory, and their checksum.
public enum PageCompression {
  /// Compresses bytes in the zlib format (RFC 1950), looking for runs of one byte only: fast, and as small as a full search where
  /// most bytes are zero and the rest is noise.
  ///
  /// - Parameter bytes: What to compress.
  /// - Returns: The compressed bytes.
  /// - Throws: `undo.memory`.
  public static func compressed(_ bytes: [UInt8]) throws(SurgeryError) -> [UInt8] {
    var stream = unsafe z_stream()
    return try unsafe withStream(&stream) { (stream) throws(SurgeryError) in
      guard unsafe lora_deflate_init(stream, 6, MAX_WBITS) == Z_OK,
        unsafe deflateParams(stream, 6, Z_RLE) == Z_OK
      else { throw SurgeryError(.io, "undo.memory", "no memory to compress") }
      defer { unsafe _ = deflateEnd(stream) }
      let bound = Int(unsafe deflateBound(stream, uLong(bytes.count)))
      var result = [UInt8](repeating: 0, count: bound)
      let status = unsafe transfer(bytes, into: &result, stream) { unsafe deflate($0, Z_FINISH) }
      guard status == Z_STREAM_END else {
        throw SurgeryError(.bug, "bug.deflate", "a page did not fit its bound")
      }
      result.removeLast(Int(unsafe stream.pointee.avail_out))
      return result
    }
  }

  /// Expands what `compressed` made.
  ///
  /// - Parameters:
  ///   - bytes: One zlib stream.
  ///   - limit: The most bytes that it may expand to.
  /// - Returns: The bytes.
  /// - Throws: `undo.damaged` where the stream is damaged, too long or followed by something.
  public static func expanded(_ bytes: [UInt8], limit: Int) throws(SurgeryError) -> [UInt8] {
    var stream = unsafe z_stream()
    return try unsafe withStream(&stream) { (stream) throws(SurgeryError) in
      guard unsafe lora_inflate_init(stream, MAX_WBITS) == Z_OK else {
        throw SurgeryError(.io, "undo.memory", "no memory to expand")
      }
      defer { unsafe _ = inflateEnd(stream) }
      var result = [UInt8](repeating: 0, count: max(1, limit))
      let status = unsafe transfer(bytes, into: &result, stream) { unsafe inflate($0, Z_FINISH) }
      guard status == Z_STREAM_END, unsafe stream.pointee.avail_in == 0 else {
        throw SurgeryError(.data, "undo.damaged", "a page of the undo record does not expand")
      }
      result.removeLast(Int(unsafe stream.pointee.avail_out))
      return result
    }
  }

  /// The CRC-32 of ISO 3309, as zlib computes it.
  public static func checksum(_ bytes: RawSpan) -> UInt32 {
    unsafe bytes.withUnsafeBytes { buffer in
      UInt32(
        truncatingIfNeeded: unsafe crc32_z(
          0, buffer.baseAddress?.assumingMemoryBound(to: UInt8.self), buffer.count))
    }
  }

  /// Lends the stream at one address: zlib keeps a pointer to it.
  private static func withStream<Result>(
    _ stream: inout z_stream,
    _ body: (UnsafeMutablePointer<z_stream>) throws(SurgeryError) -> Result
  ) throws(SurgeryError) -> Result {
    try unsafe withUnsafeMutablePointer(to: &stream) { (pointer) throws(SurgeryError) in
      try unsafe body(pointer)
    }
  }

  private static func transfer(
    _ input: [UInt8], into output: inout [UInt8], _ stream: UnsafeMutablePointer<z_stream>,
    _ call: (UnsafeMutablePointer<z_stream>) -> Int32
  ) -> Int32 {
    unsafe input.withUnsafeBufferPointer { source in
      unsafe output.withUnsafeMutableBufferPointer { target in
        unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
        unsafe stream.pointee.avail_in = uInt(source.count)
        unsafe stream.pointee.next_out = target.baseAddress
        unsafe stream.pointee.avail_out = uInt(target.count)
        return unsafe call(stream)
      }
    }
  }
}
