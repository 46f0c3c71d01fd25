import Tensors

/// The header of a compact file: its tensors with their pages, its metadata, and the sections of whoever wrote it.
public struct CompactHeader: Sendable {
  /// How a tensor's pages are encoded.
  public enum Codec: String, Sendable, Hashable {
    /// The bytes of the elements, taken apart into planes; exact.
    case planes
    /// Whole numbers with a step a row, decoded to F32.
    case quantised
  }

  /// A page as it lies in the file.
  struct Page: Sendable, Hashable {
    var offset: UInt64
    var size: Int
    var crc: UInt32
  }

  /// A tensor with its pages.
  struct Tensor: Sendable {
    var info: TensorInfo
    var codec: Codec
    var pages: [Page]

    /// Bytes as stored.
    var storedBytes: Int { pages.reduce(0) { $0 + $1.size } }
  }

  /// The whole header as parsed.
  public let json: JSONValue
  let tensors: [Tensor]
  /// Metadata as strings.
  public let metadata: [String: String]

  /// Bytes of the header as stored.
  public let storedSize: Int

  /// How each tensor is encoded, in the order of the file.
  public var codecs: [Codec] { tensors.map(\.codec) }

  /// Bytes that each tensor takes in the file, in the order of the file.
  public var storedBytes: [Int] { tensors.map(\.storedBytes) }

  /// Parses a header's text.
  ///
  /// - Parameters:
  ///   - text: The text, inflated.
  ///   - preamble: The preamble that led to it.
  ///   - fileSize: Bytes of the file.
  /// - Throws: `lra.…` and `json.…`.
  init(
    parsing text: [UInt8], preamble: CompactPreamble, fileSize: UInt64
  ) throws(SurgeryError) {
    json = try JSONValue(parsing: text)
    storedSize = Int(clamping: preamble.storedHeaderSize)
    guard json.isCanonical, json.text().utf8.elementsEqual(text) else {
      throw SurgeryError.lra(
        "canonical", "the header is not in canonical form",
        expected: "sorted keys, no white space", offset: preamble.headerOffset)
    }
    try Self.checkFeatures(json)
    guard let entries = json["tensors"]?.elements else {
      throw SurgeryError.lra("header", "the header has no list of tensors", expected: "tensors")
    }
    metadata = try Self.metadata(json)
    var tensors: [Tensor] = []
    var names = Set<TensorName>()
    var position = UInt64(CompactFormat.preambleSize)
    var expanded: UInt64 = 0
    let limit = CompactFormat.maximumExpansion(ofFile: fileSize)
    for entry in entries {
      let tensor = try Tensor(entry, at: &position, before: preamble.headerOffset)
      guard names.insert(tensor.info.name).inserted else {
        throw SurgeryError.lra(
          "name", "two tensors have the same name", tensor: tensor.info.name.text)
      }
      let (sum, overflow) = expanded.addingReportingOverflow(UInt64(tensor.info.byteCount))
      guard !overflow, sum <= limit else {
        throw SurgeryError.lra(
          "expansion", "the tensors would decode to more than such a file may hold",
          tensor: tensor.info.name.text, expected: "at most \(limit) bytes")
      }
      expanded = sum
      tensors.append(tensor)
    }
    guard position == preamble.headerOffset else {
      throw SurgeryError.lra(
        "layout", "the pages do not end where the header begins",
        expected: "\(preamble.headerOffset)", found: "\(position)")
    }
    self.tensors = tensors
  }

  private static func checkFeatures(_ json: JSONValue) throws(SurgeryError) {
    guard json.members != nil else {
      throw SurgeryError.lra("header", "the header is no JSON object")
    }
    guard let features = json["requires"] else { return }
    for feature in features.elements ?? [] {
      guard let name = feature.text else { break }
      guard CompactFormat.knownFeatures.contains(name) else {
        throw SurgeryError(
          .unsupported, "lra.requires", "the file needs a feature that is not known",
          found: name, hint: "use a newer lora-surgery")
      }
    }
    guard features.elements?.allSatisfy({ $0.text != nil }) == true else {
      throw SurgeryError.lra("header", "requires is no list of names")
    }
  }

  private static func metadata(_ json: JSONValue) throws(SurgeryError) -> [String: String] {
    var metadata: [String: String] = [:]
    guard let value = json["metadata"] else { return metadata }
    guard let members = value.members else {
      throw SurgeryError.lra("header", "metadata is no JSON object")
    }
    for member in members {
      guard let text = member.value.text else {
        throw SurgeryError.lra(
          "header", "metadata has a value that is no string", found: member.key)
      }
      metadata[member.key] = text
    }
    return metadata
  }
}

extension CompactHeader.Tensor {
  /// Reads one entry of the list of tensors; its pages begin at the first aligned position from `position` on.
  fileprivate init(
    _ json: JSONValue, at position: inout UInt64, before end: UInt64
  ) throws(SurgeryError) {
    guard let name = json["name"]?.text else {
      throw SurgeryError.lra("header", "a tensor has no name")
    }
    func wrong(_ id: String, _ what: String, _ expected: String? = nil, _ found: String? = nil)
      -> SurgeryError
    { .lra(id, what, tensor: name, expected: expected, found: found) }
    guard let codecName = json["codec"]?.text, let typeName = json["dtype"]?.text,
      let sizes = json["shape"]?.elements, let numbers = json["pages"]?.elements
    else { throw wrong("header", "a tensor lacks codec, dtype, shape or pages") }
    guard let codec = CompactHeader.Codec(rawValue: codecName) else {
      var error = wrong("codec", "the tensor has a codec that is not known", nil, codecName)
      error.kind = .unsupported
      throw error
    }
    guard let dtype = DType(safetensorsName: typeName) else {
      throw wrong("dtype", "the tensor has an unknown dtype", nil, typeName)
    }
    let dimensions = sizes.compactMap(\.integer)
    guard dimensions.count == sizes.count, let shape = Shape(dimensions),
      let info = TensorInfo(name: TensorName(name), dtype: dtype, shape: shape)
    else { throw wrong("shape", "the tensor has an impossible shape") }
    if codec == .quantised {
      guard dtype == .f32, shape.rank == 2, shape.columns > 0,
        shape.columns <= CompactFormat.maximumQuantisedColumns
      else {
        throw wrong(
          "shape", "a quantised tensor must be a matrix of F32 of at most 2^22 columns", nil,
          "\(dtype) \(shape)")
      }
    }
    self.info = info
    self.codec = codec
    pages = []
    // Pages are counted from the list, never from the shape, which has not been paid for yet.
    guard numbers.count % 2 == 0, numbers.count / 2 == pageCount else {
      throw wrong(
        "pages", "the tensor has a wrong number of pages", "\(pageCount)", "\(numbers.count / 2)")
    }
    for index in stride(from: 0, to: numbers.count, by: 2) {
      guard let size = numbers[index].integer, let crc = numbers[index + 1].integer, size > 0,
        let crc = UInt32(exactly: crc)
      else { throw wrong("pages", "a page has no size and checksum") }
      guard let start = CompactFormat.aligned(position), start <= end, UInt64(size) <= end - start
      else {
        throw wrong("layout", "a page reaches into the header", "\(end)", "\(position) + \(size)")
      }
      guard size <= maximumPageSize else {
        throw wrong("pages", "a page is larger than what it holds", "\(maximumPageSize)", "\(size)")
      }
      pages.append(CompactHeader.Page(offset: start, size: size, crc: crc))
      position = start + UInt64(size)
    }
    // The padding behind the last page belongs to it; the header begins at a multiple of the alignment, so not before its end.
    position = CompactFormat.aligned(position) ?? position
  }

  /// Units of the codec in one page: elements, or rows.
  var unitsPerPage: Int {
    codec == .planes
      ? CompactFormat.elementsPerPage : QuantisedPage.rowsPerPage(columns: info.shape.columns)
  }

  private var units: Int { codec == .planes ? info.shape.elementCount : info.shape.rows }

  /// Pages that the shape takes.
  var pageCount: Int { units / unitsPerPage + (units % unitsPerPage == 0 ? 0 : 1) }

  /// Bytes that a full page delivers.
  var bytesPerPage: Int {
    codec == .planes
      ? info.dtype.byteCount(ofElements: unitsPerPage) ?? 0 : unitsPerPage * info.shape.columns * 4
  }

  /// The units that a page holds.
  func units(ofPage page: Int) -> Int { min(unitsPerPage, units - page * unitsPerPage) }

  /// The most bytes that a page may take as stored: everything raw, every code an outlier.
  private var maximumPageSize: Int {
    codec == .planes
      ? bytesPerPage + 8 * CompactPlane.wordSize
      : QuantisedPage.maximumSize(rows: unitsPerPage, columns: info.shape.columns)
  }
}

extension JSONValue {
  /// Whether the keys of every object ascend by their bytes.
  var isCanonical: Bool {
    switch self {
    case .object(let members):
      zip(members, members.dropFirst()).allSatisfy { TensorName($0.key) < TensorName($1.key) }
        && members.allSatisfy(\.value.isCanonical)
    case .array(let elements): elements.allSatisfy(\.isCanonical)
    default: true
    }
  }

  /// This value with the keys of every object in ascending order of their bytes.
  public var canonical: JSONValue {
    switch self {
    case .object(let members):
      .object(
        members.map { Member($0.key, $0.value.canonical) }
          .sorted { TensorName($0.key) < TensorName($1.key) })
    case .array(let elements): .array(elements.map(\.canonical))
    default: self
    }
  }
}
