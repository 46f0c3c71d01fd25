import Tensors

/// The JSON header of a safetensors file, scanned and checked.
///
/// The rules are those of the reference implementation (huggingface/safetensors, `safetensors/src/tensor.rs`) where its
/// text and its code agree, and the stricter of both where they do not: no duplicate names, no hole, no overlap, no
/// number that is not a plain integer.
struct SafetensorsHeader {
  /// The reference refuses longer headers, to bound what a reader must hold in memory.
  static let maximumLength: UInt64 = 100_000_000

  struct Entry {
    var info: TensorInfo
    var begin: UInt64
    var end: UInt64
  }

  /// The tensors, by begin, end and name.
  private(set) var entries: [Entry] = []
  private(set) var metadata: [String: String] = [:]
  /// What was read though it is unusual.
  private(set) var warnings: [String] = []
  /// Position of the data section in the file.
  let dataOffset: UInt64

  /// Reads and checks the header of `file`.
  init(of file: InputFile) throws(SurgeryError) {
    guard file.size >= 8 else {
      throw SurgeryError(
        .data, "st.short", "too short for a safetensors file", expected: "at least 8 bytes",
        found: "\(file.size, counting: "byte")")
    }
    let length = try file.bytes(at: 0, count: 8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    guard length <= file.size - 8 else {
      throw SurgeryError(
        .data, "st.header-length",
        "the header length exceeds the file size; this is no safetensors file, or it is truncated",
        expected: "at most \(file.size - 8, counting: "byte")",
        found: "\(length, counting: "byte")", offset: 0)
    }
    guard length <= Self.maximumLength else {
      throw SurgeryError(
        .data, "st.header-too-large", "the header length exceeds the format's limit",
        expected: "at most \(Self.maximumLength) bytes", found: "\(length, counting: "byte")",
        offset: 0)
    }
    guard length >= 2 else {
      throw SurgeryError(
        .data, "st.header-length", "the header is too short for a JSON object",
        expected: "at least 2 bytes", found: "\(length, counting: "byte")", offset: 0)
    }
    dataOffset = 8 + length
    let text = try file.bytes(at: 8, count: Int(length))
    do throws(SurgeryError) {
      try scan(text)
    } catch {
      var error = error
      error.offset = error.offset.map { $0 + 8 }
      error.id = error.id.replacing("json.syntax", with: "st.json").replacing("json.", with: "st.")
      throw error
    }
    try checkRanges(dataSize: file.size - dataOffset)
  }

  private mutating func scan(_ text: [UInt8]) throws(SurgeryError) {
    var scanner = JSONScanner(text)
    if text.first != UInt8(ascii: "{") { warnings.append("the header begins with white space") }
    var found: [Entry] = []
    var foundMetadata: [String: String] = [:]
    var unknown = Set<String>()
    try scanner.object { (scanner, key) throws(SurgeryError) in
      if key == "__metadata__" {
        foundMetadata = try Self.metadata(&scanner)
      } else {
        do throws(SurgeryError) {
          found.append(try Self.entry(&scanner, name: TensorName(key), unknown: &unknown))
        } catch {
          throw error.inTensor(TensorName(key))
        }
      }
    }
    try scanner.expectEnd()
    for field in unknown.sorted() {
      warnings.append("the header has an unknown field \"\(DisplayText.escaped(field))\"")
    }
    entries = found
    metadata = foundMetadata
  }

  private static func metadata(
    _ scanner: inout JSONScanner
  ) throws(SurgeryError) -> [String: String] {
    guard scanner.peek() == UInt8(ascii: "{") else {
      throw scanner.failure("__metadata__ is not an object of strings", id: "st.metadata")
    }
    var metadata: [String: String] = [:]
    try scanner.object { (scanner, key) throws(SurgeryError) in
      guard scanner.peek() == UInt8(ascii: "\"") else {
        throw scanner.failure(
          "the value of \"\(DisplayText.escaped(key))\" in __metadata__ is not a string",
          id: "st.metadata")
      }
      let text = try scanner.string()
      // The scanner compared bytes; a Swift dictionary holds canonically equal keys for one.
      if metadata.updateValue(text, forKey: key) != nil {
        throw scanner.failure(
          "two keys of __metadata__ are canonically equal: \"\(DisplayText.escaped(key))\"",
          id: "st.metadata")
      }
    }
    return metadata
  }

  private static func entry(
    _ scanner: inout JSONScanner, name: TensorName, unknown: inout Set<String>
  ) throws(SurgeryError) -> Entry {
    var dtype: DType?
    var dimensions: [Int]?
    var range: [UInt64]?
    guard scanner.peek() == UInt8(ascii: "{") else {
      throw scanner.failure("the entry is not an object with dtype, shape and data_offsets")
    }
    try scanner.object { (scanner, field) throws(SurgeryError) in
      switch field {
      case "dtype":
        let text = try scanner.string()
        guard let known = DType(safetensorsName: text) else {
          throw scanner.failure("unknown dtype \"\(DisplayText.escaped(text))\"", id: "st.dtype")
        }
        dtype = known
      case "shape":
        var list: [Int] = []
        try scanner.array { scanner throws(SurgeryError) in
          guard let dimension = Int(exactly: try scanner.unsignedInteger()) else {
            throw scanner.failure("a dimension of 2^63 or more", id: "st.overflow")
          }
          list.append(dimension)
        }
        dimensions = list
      case "data_offsets":
        var list: [UInt64] = []
        try scanner.array { scanner throws(SurgeryError) in
          list.append(try scanner.unsignedInteger())
        }
        range = list
      default:
        unknown.insert(field)
        _ = try scanner.value()
      }
    }
    guard let dtype else { throw scanner.failure("the entry has no dtype") }
    guard let dimensions else { throw scanner.failure("the entry has no shape") }
    guard let range else { throw scanner.failure("the entry has no data_offsets") }
    guard range.count == 2 else {
      throw scanner.failure("data_offsets has \(range.count) numbers instead of 2")
    }
    guard range[0] <= range[1] else {
      throw SurgeryError(
        .data, "st.offsets", "data_offsets end before they begin", expected: "begin <= end",
        found: "[\(range[0]), \(range[1])]")
    }
    guard let shape = Shape(dimensions) else {
      throw SurgeryError(
        .data, "st.overflow", "the product of the dimensions is 2^63 or more",
        found: dimensions.prefix(8).map(String.init).joined(separator: " x "))
    }
    guard let info = TensorInfo(name: name, dtype: dtype, shape: shape) else {
      if dtype.bytesPerElement == nil,
        !shape.elementCount.multipliedReportingOverflow(by: dtype.bitsPerElement ?? 1).overflow
      {
        throw SurgeryError(
          .data, "st.sub-byte", "the elements of \(dtype) do not fill whole bytes",
          found: "\(shape.elementCount, counting: "element")")
      }
      throw SurgeryError(
        .data, "st.overflow", "shape \(shape) of \(dtype) takes 2^63 bits or more")
    }
    guard UInt64(info.byteCount) == range[1] - range[0] else {
      throw SurgeryError(
        .data, "st.size", "data_offsets do not agree with shape \(shape) of \(dtype)",
        expected: "\(info.byteCount, counting: "byte")",
        found: "\(range[1] - range[0], counting: "byte")")
    }
    return Entry(info: info, begin: range[0], end: range[1])
  }

  /// Sorts the entries and checks that they fill the data section without hole or overlap.
  private mutating func checkRanges(dataSize: UInt64) throws(SurgeryError) {
    entries.sort {
      ($0.begin, $0.end) == ($1.begin, $1.end)
        ? $0.info.name < $1.info.name : ($0.begin, $0.end) < ($1.begin, $1.end)
    }
    var position: UInt64 = 0
    for entry in entries {
      if entry.end > dataSize {
        throw SurgeryError(
          .data, "st.truncated", "the data ends beyond the file, which is truncated",
          tensor: entry.info.name.text, expected: "\(entry.end, counting: "byte") of data",
          found: "\(dataSize, counting: "byte") of data", hint: "download the file again")
      }
      guard entry.begin == position else {
        let isHole = entry.begin > position
        throw SurgeryError(
          .data, isHole ? "st.hole" : "st.overlap",
          isHole ? "a hole before the tensor's data" : "the tensor's data overlaps another's",
          tensor: entry.info.name.text, expected: "begin \(position)",
          found: "begin \(entry.begin)",
          offset: dataOffset + entry.begin)
      }
      position = entry.end
    }
    guard position == dataSize else {
      throw SurgeryError(
        .data, "st.trailing", "trailing bytes after the last tensor",
        expected: "\(dataOffset + position, counting: "byte")",
        found: "\(dataOffset + dataSize, counting: "byte")",
        offset: dataOffset + position)
    }
  }
}
