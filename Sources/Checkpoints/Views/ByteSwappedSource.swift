import Tensors

/// Big-endian elements, delivered little-endian.
struct ByteSwappedSource: TensorSource {
  private let base: any TensorSource
  /// Bytes that are reversed together.
  private let unit: Int

  /// Wraps a source whose elements consist of big-endian units of `unit` bytes, a power of two up to 8.
  init(_ base: any TensorSource, unit: Int) {
    self.base = base
    self.unit = unit
  }

  var file: InputFile { base.file }

  var plainOffset: UInt64? { nil }

  var isSequential: Bool { base.isSequential }

  func makeReader() throws(SurgeryError) -> any TensorReader {
    Reader(base: try base.makeReader(), unit: unit)
  }

  private struct Reader: TensorReader {
    var base: any TensorReader
    let unit: Int
    /// The unit that a read last cut through, kept so that a sequential base need not go back for its rest.
    var cut: (offset: Int, bytes: [UInt8])?

    mutating func read(
      at offset: Int, into target: inout MutableRawSpan
    ) throws(SurgeryError) {
      let end = offset + target.byteCount
      let wholeStart = min((offset + unit - 1) / unit * unit, end)
      let wholeEnd = max(end / unit * unit, wholeStart)
      if offset < wholeStart {
        var head = target._mutatingExtracting(0..<wholeStart - offset)
        try readCut(at: offset, into: &head)
      }
      if wholeStart < wholeEnd {
        var middle = target._mutatingExtracting(wholeStart - offset..<wholeEnd - offset)
        try base.read(at: wholeStart, into: &middle)
        swap(&middle)
      }
      if wholeEnd < end {
        var tail = target._mutatingExtracting(wholeEnd - offset..<end - offset)
        try readCut(at: wholeEnd, into: &tail)
      }
    }

    /// Reads bytes inside one unit.
    private mutating func readCut(
      at offset: Int, into target: inout MutableRawSpan
    ) throws(SurgeryError) {
      let start = offset / unit * unit
      let bytes: [UInt8]
      if let cut, cut.offset == start {
        bytes = cut.bytes
      } else {
        bytes = try [UInt8](filling: unit) { (whole) throws(SurgeryError) in
          try base.read(at: start, into: &whole)
        }.reversed()
        cut = (start, bytes)
      }
      for index in 0..<target.byteCount {
        target.storeBytes(of: bytes[offset - start + index], toByteOffset: index, as: UInt8.self)
      }
    }

    private func swap(_ target: inout MutableRawSpan) {
      unsafe target.withUnsafeMutableBytes { buffer in
        switch unit {
        case 2: unsafe Self.swap(buffer, UInt16.self)
        case 4: unsafe Self.swap(buffer, UInt32.self)
        case 8: unsafe Self.swap(buffer, UInt64.self)
        default: break
        }
      }
    }

    private static func swap<Unit: FixedWidthInteger>(
      _ buffer: UnsafeMutableRawBufferPointer, _: Unit.Type
    ) {
      for position in stride(from: 0, to: buffer.count, by: MemoryLayout<Unit>.size) {
        let value = unsafe buffer.loadUnaligned(fromByteOffset: position, as: Unit.self)
        unsafe buffer.storeBytes(of: value.byteSwapped, toByteOffset: position, as: Unit.self)
      }
    }
  }
}
