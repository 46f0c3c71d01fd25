import Tensors

/// The header of a GGUF file, parsed and checked.
///
/// The rules are those of ggml's reader (`ggml/src/gguf.cpp`), which is stricter than the format's text on the order of
/// data and on names, and those of the text (`ggml/docs/gguf.md`) where ggml does not look: booleans, UTF-8, bytes after
/// the last tensor.
struct GGUFHeader {
  struct Entry {
    /// The tensor as it is stored: block types are `blockQuantised`.
    var info: TensorInfo
    /// Position in the file.
    var offset: UInt64
  }

  /// `GGML_MAX_NAME` with its terminator.
  static let maximumNameLength = 63
  /// `GGML_MAX_DIMS`.
  static let maximumDimensions: UInt32 = 4
  static let defaultAlignment: UInt32 = 32

  private(set) var metadata = GGUFMetadata()
  /// The metadata as text.
  private(set) var texts: [String: String] = [:]
  private(set) var entries: [Entry] = []
  private(set) var alignment = Self.defaultAlignment
  /// What was read though it is unusual.
  private(set) var warnings: [String] = []

  /// Reads and checks the header of `file`.
  init(of file: InputFile) throws(SurgeryError) {
    var cursor = GGUFCursor(file)
    try Self.checkMagic(&cursor)
    let tensorCount = try cursor.integer(UInt64.self, "the number of tensors")
    let keyCount = try cursor.integer(UInt64.self, "the number of metadata keys")
    // The smallest key takes 14 bytes and the smallest tensor 24, so larger counts are lies.
    guard keyCount <= cursor.rest / 14 else {
      throw cursor.beyondEnd(
        "the number of metadata keys", "gguf.key-count", needed: "\(keyCount, counting: "key")")
    }
    for _ in 0..<keyCount { try readKey(&cursor) }
    texts = metadata.texts
    guard texts.count == metadata.keys.count else {
      throw SurgeryError(
        .data, "gguf.duplicate", "duplicate metadata key: two keys are canonically equal")
    }
    try readAlignment()
    guard tensorCount <= cursor.rest / 24 else {
      throw cursor.beyondEnd(
        "the number of tensors", "gguf.tensor-count", needed: "\(tensorCount, counting: "tensor")")
    }
    var offsets: [UInt64] = []
    var names = Set<TensorName>()
    for _ in 0..<tensorCount {
      let (info, offset) = try Self.readTensor(&cursor)
      guard names.insert(info.name).inserted else {
        throw SurgeryError(
          .data, "gguf.duplicate", "duplicate tensor name", tensor: info.name.text)
      }
      entries.append(Entry(info: info, offset: 0))
      offsets.append(offset)
    }
    try placeTensors(offsets, after: cursor.position, fileSize: file.size)
  }

  private static func checkMagic(_ cursor: inout GGUFCursor) throws(SurgeryError) {
    let magic = try cursor.integer(UInt32.self, "the magic")
    guard magic == 0x4655_4747 else {
      throw SurgeryError(
        .data, "gguf.magic", "no GGUF file: wrong magic", expected: "GGUF", offset: 0)
    }
    let version = try cursor.integer(UInt32.self, "the version")
    if version == 2 || version == 3 { return }
    if (2...3).contains(version.byteSwapped) {
      throw SurgeryError(
        .unsupported, "gguf.big-endian", "big-endian GGUF files are not read", offset: 4,
        hint: "convert it with gguf_convert_endian.py of llama.cpp")
    }
    throw SurgeryError(
      .unsupported, "gguf.version", "this version of GGUF is not read", expected: "version 2 or 3",
      found: "version \(version)", offset: 4)
  }

  private mutating func readKey(_ cursor: inout GGUFCursor) throws(SurgeryError) {
    let start = cursor.position
    let key = try cursor.string("a metadata key")
    guard !key.isEmpty, key.utf8.count < 65536, !key.utf8.contains(0) else {
      throw SurgeryError(
        .data, "gguf.key", "a metadata key is malformed",
        expected: "1 to 65535 bytes without NUL",
        found: "\(key.utf8.count, counting: "byte"): \"\(DisplayText.escaped(key, limit: 40))\"",
        offset: start)
    }
    guard metadata[key] == nil else {
      throw SurgeryError(
        .data, "gguf.duplicate", "duplicate metadata key \"\(DisplayText.escaped(key))\"",
        offset: start)
    }
    metadata[key] = try GGUFValue(reading: &cursor, key: key)
  }

  private mutating func readAlignment() throws(SurgeryError) {
    guard let value = metadata["general.alignment"] else { return }
    guard case .u32(let alignment) = value, alignment > 0, alignment & (alignment - 1) == 0 else {
      throw SurgeryError(
        .data, "gguf.alignment", "general.alignment is malformed",
        expected: "a power of two as u32", found: "\(value.text) (alignment)")
    }
    if alignment % 8 != 0 {
      warnings.append("general.alignment is \(alignment), which is no multiple of 8")
    }
    self.alignment = alignment
  }

  private static func readTensor(
    _ cursor: inout GGUFCursor
  ) throws(SurgeryError) -> (info: TensorInfo, offset: UInt64) {
    let start = cursor.position
    let name = TensorName(try cursor.string("a tensor's name"))
    guard name.text.utf8.count <= maximumNameLength, !name.text.utf8.contains(0) else {
      throw SurgeryError(
        .data, "gguf.name", "the tensor's name is malformed", tensor: name.text,
        expected: "at most \(maximumNameLength) bytes without NUL",
        found: "\(name.text.utf8.count, counting: "byte")", offset: start)
    }
    do throws(SurgeryError) {
      let shape = try readShape(&cursor)
      let dtype = try readType(&cursor)
      let offset = try cursor.integer(UInt64.self, "the tensor's offset")
      if case .blockQuantised(let type) = dtype {
        // The innermost dimension is GGUF's row; blocks never cross rows.
        let row = shape.dimensions.last ?? 1
        guard row % type.elementsPerBlock == 0 else {
          throw SurgeryError(
            .data, "gguf.block", "the rows of type \(type.name) are not whole blocks",
            expected: "a multiple of \(type.elementsPerBlock, counting: "element")",
            found: "\(row, counting: "element")")
        }
      }
      guard let info = TensorInfo(name: name, dtype: dtype, shape: shape) else {
        throw SurgeryError(
          .data, "gguf.overflow", "shape \(shape) of \(dtype) takes 2^63 bits or more")
      }
      return (info, offset)
    } catch {
      throw error.inTensor(name)
    }
  }

  /// Reads the dimensions, innermost first as `ne` has them, and returns them outermost first.
  private static func readShape(_ cursor: inout GGUFCursor) throws(SurgeryError) -> Shape {
    let start = cursor.position
    let rank = try cursor.integer(UInt32.self, "the number of dimensions")
    guard rank <= maximumDimensions else {
      throw SurgeryError(
        .data, "gguf.dimensions", "too many dimensions",
        expected: "at most \(maximumDimensions) dimensions", found: "\(rank)", offset: start)
    }
    var dimensions: [Int] = []
    for _ in 0..<rank {
      let position = cursor.position
      let dimension = try cursor.integer(Int64.self, "a dimension")
      guard dimension >= 0 else {
        throw SurgeryError(
          .data, "gguf.dimensions", "a dimension is negative or 2^63 or more",
          found: "\(UInt64(bitPattern: dimension))", offset: position)
      }
      dimensions.insert(Int(dimension), at: 0)
    }
    guard let shape = Shape(dimensions) else {
      throw SurgeryError(
        .data, "gguf.overflow", "the product of the dimensions is 2^63 or more",
        found: dimensions.map(String.init).joined(separator: " x "), offset: start)
    }
    return shape
  }

  private static func readType(_ cursor: inout GGUFCursor) throws(SurgeryError) -> DType {
    let start = cursor.position
    let code = try cursor.integer(UInt32.self, "the tensor's type")
    switch GGUFTensorType.meaning(of: code) {
    case .plain(let dtype): return dtype
    case .blocks(let type): return .blockQuantised(type)
    case .removed(let name):
      throw SurgeryError(
        .unsupported, "gguf.type", "the tensor type \(name) was removed from GGUF",
        found: "type \(code)", offset: start, hint: "quantise the model again")
    case .unknown:
      // ggml has counted to 41 in all its years; a number far beyond is a misread, not a newer type.
      throw SurgeryError(
        code < 256 ? .unsupported : .data, "gguf.type", "unknown tensor type",
        found: "type \(code)", offset: start)
    }
  }

  /// Checks that the tensors lie one after the other, each padded to the alignment, and that the file holds them.
  private mutating func placeTensors(
    _ offsets: [UInt64], after headerEnd: UInt64, fileSize: UInt64
  ) throws(SurgeryError) {
    let unit = UInt64(alignment)
    let dataStart = (headerEnd + unit - 1) / unit * unit
    // Every position stays below the file's size plus one padding, so the sums cannot overflow.
    var position = dataStart
    for (index, offset) in offsets.enumerated() {
      let info = entries[index].info
      guard offset == position - dataStart else {
        throw SurgeryError(
          .data, "gguf.offset", "the tensor's offset does not follow from the tensors before it",
          tensor: info.name.text, expected: "offset \(position - dataStart)",
          found: "offset \(offset)")
      }
      let bytes = UInt64(info.byteCount)
      guard position <= fileSize, bytes <= fileSize - position else {
        guard bytes > 0 else {
          entries[index].offset = fileSize
          continue
        }
        throw SurgeryError(
          .data, "gguf.truncated", "the tensor's data ends beyond the file, which is truncated",
          tensor: info.name.text, expected: "\(position) + \(bytes, counting: "byte")",
          found: "\(fileSize, counting: "byte")", hint: "download the file again")
      }
      entries[index].offset = position
      position = (position + bytes + unit - 1) / unit * unit
    }
    guard fileSize <= position else {
      throw SurgeryError(
        .data, "gguf.trailing", "trailing bytes after the last tensor",
        expected: "\(position, counting: "byte")", found: "\(fileSize, counting: "byte")",
        offset: position)
    }
  }
}
