public import Tensors

extension TensorFile {
  /// Reads preamble and header of a compact file.
  static func compact(_ file: InputFile) throws(SurgeryError) -> TensorFile {
    let header: CompactHeader
    do throws(SurgeryError) {
      header = try CompactHeader(reading: file)
    } catch {
      throw error.inFile(file.path)
    }
    var result = TensorFile(
      file: file, format: .compact,
      tensors: header.tensors.map {
        StoredTensor(info: $0.info, source: CompactSource(file: file, tensor: $0))
      }, metadata: header.metadata)
    result.compactHeader = header
    return result
  }
}

extension CompactHeader {
  /// Reads and checks the header of a file; no page is touched.
  init(reading file: InputFile) throws(SurgeryError) {
    let start = try file.bytes(
      at: 0, count: Int(min(file.size, UInt64(CompactFormat.preambleSize))))
    let preamble = try CompactPreamble(start, fileSize: file.size)
    let stored = try file.bytes(
      at: preamble.headerOffset, count: Int(preamble.storedHeaderSize))
    let crc = CRC32.of(stored)
    guard crc == preamble.headerCRC else {
      throw SurgeryError.lra(
        "header-crc", "the header is damaged", expected: preamble.headerCRC.hexadecimal,
        found: crc.hexadecimal, offset: preamble.headerOffset, hint: "download it again")
    }
    var text = stored
    if preamble.headerSize != preamble.storedHeaderSize {
      text = [UInt8](repeating: 0, count: Int(preamble.headerSize))
      do throws(SurgeryError) {
        try text.withMutableRawSpan(text.indices) { (target) throws(SurgeryError) in
          try CompactPlane.inflate(stored.span, into: &target)
        }
      } catch {
        throw error.id == "lra.deflate"
          ? SurgeryError.lra(
            "header-deflate", "the header does not inflate to the size it says",
            expected: "\(preamble.headerSize, counting: "byte")", offset: preamble.headerOffset)
          : error
      }
    }
    try self.init(parsing: text, preamble: preamble, fileSize: file.size)
  }

  /// Checks every byte of a compact file: the checksum of the whole, and that each page decodes.
  ///
  /// - Parameter file: A compact file.
  /// - Throws: `lra.crc`, `lra.page-crc`, `lra.page`, `lra.deflate`, and what opening throws.
  public static func verify(_ file: InputFile) throws(SurgeryError) {
    do throws(SurgeryError) {
      try verifyBody(file)
      let header = try CompactHeader(reading: file)
      for tensor in header.tensors {
        var reader = CompactSource.Reader(file: file, tensor: tensor)
        for page in tensor.pages.indices { try reader.load(page) }
      }
    } catch {
      throw error.inFile(file.path)
    }
  }

  private static func verifyBody(_ file: InputFile) throws(SurgeryError) {
    let start = try file.bytes(
      at: 0, count: Int(min(file.size, UInt64(CompactFormat.preambleSize))))
    let preamble = try CompactPreamble(start, fileSize: file.size)
    var crc: UInt32 = 0
    var position = UInt64(CompactFormat.preambleSize)
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    while position < file.size {
      let count = Int(min(file.size - position, UInt64(buffer.count)))
      let offset = position
      try buffer.withMutableRawSpan(0..<count) { (target) throws(SurgeryError) in
        try file.read(at: offset, into: &target)
      }
      crc = unsafe CRC32.update(crc, buffer.span.extracting(0..<count).bytes)
      position += UInt64(count)
    }
    guard crc == preamble.bodyCRC else {
      throw SurgeryError.lra(
        "crc", "the file is damaged", expected: preamble.bodyCRC.hexadecimal,
        found: crc.hexadecimal, offset: 48, hint: "download it again")
    }
  }
}

/// A tensor in pages of a compact file.
struct CompactSource: TensorSource {
  let file: InputFile
  let tensor: CompactHeader.Tensor

  /// Never plain: every page is checked as it is read.
  var plainOffset: UInt64? { nil }
  var isSequential: Bool { false }

  func makeReader() -> any TensorReader { Reader(file: file, tensor: tensor) }

  /// Reads pages, keeping the last.
  struct Reader: TensorReader {
    let file: InputFile
    let tensor: CompactHeader.Tensor
    private var current: Int?
    private var bytes: [UInt8] = []
    private var scratch: [UInt8] = []

    init(file: InputFile, tensor: CompactHeader.Tensor) {
      self.file = file
      self.tensor = tensor
    }

    mutating func read(at offset: Int, into target: inout MutableRawSpan) throws(SurgeryError) {
      var done = 0
      while done < target.byteCount {
        let (page, start) = (offset + done).quotientAndRemainder(dividingBy: tensor.bytesPerPage)
        if current != page { try load(page) }
        let count = min(bytes.count - start, target.byteCount - done)
        unsafe target.withUnsafeMutableBytes { out in
          unsafe bytes.span.extracting(start..<(start + count)).withUnsafeBufferPointer {
            unsafe UnsafeMutableRawBufferPointer(rebasing: out[done...]).copyBytes(from: $0)
          }
        }
        done += count
      }
    }

    /// Reads, checks and decodes one page.
    mutating func load(_ page: Int) throws(SurgeryError) {
      current = nil
      let place = tensor.pages[page]
      let stored = try file.bytes(at: place.offset, count: place.size)
      let crc = CRC32.of(stored)
      guard crc == place.crc else {
        throw SurgeryError.lra(
          "page-crc", "a page is damaged", tensor: tensor.info.name.text,
          expected: place.crc.hexadecimal, found: crc.hexadecimal, offset: place.offset,
          hint: "download the file again")
      }
      do throws(SurgeryError) {
        try decode(stored, units: tensor.units(ofPage: page))
      } catch {
        var error = error.inTensor(tensor.info.name)
        error.offset = place.offset
        throw error
      }
      current = page
    }

    private mutating func decode(_ page: [UInt8], units: Int) throws(SurgeryError) {
      let dtype = tensor.info.dtype
      if tensor.codec == .quantised {
        resize(&bytes, to: units * tensor.info.shape.columns * 4)
        return try QuantisedPage.decode(
          page, rows: units, columns: tensor.info.shape.columns, into: &bytes)
      }
      let total = dtype.byteCount(ofElements: units) ?? 0
      let planes = BytePlanes.form(of: dtype).count
      resize(&bytes, to: total)
      resize(&scratch, to: total)
      let stored = try CompactPlane.planes(of: page, from: 0, count: planes)
      for (index, plane) in stored.enumerated() {
        let range = (index * total / planes)..<((index + 1) * total / planes)
        try scratch.withMutableRawSpan(range) { (target) throws(SurgeryError) in
          try CompactPlane.decode(plane, of: page, into: &target)
        }
      }
      BytePlanes.join(scratch, dtype, into: &bytes)
    }

    private func resize(_ buffer: inout [UInt8], to count: Int) {
      if buffer.count != count { buffer = [UInt8](repeating: 0, count: count) }
    }
  }
}
