import Checkpoints
import Tensors

/// What an undo record says, but for its pages.
///
/// The file, all numbers little-endian:
///
/// | bytes | |
/// |---|---|
/// | 0–7 | `LRAUNDO` and a zero byte |
/// | 8–11 | the version, 1 |
/// | 12–15 | zero |
/// | 16– | pages, one after the other, in the order of the directory |
/// | then | the directory: one JSON object |
/// | last 24 | position of the directory (8), its length (8), its CRC-32 (4), `UNDO` (4) |
///
/// A page holds `elements_per_page` elements of one tensor, the last of a tensor the rest: the length of what follows the
/// header (4), the CRC-32 of the base's bytes (4), the CRC-32 of the merged tensor's bytes there (4, zero where none are
/// predicted from), then a zlib stream of a ``ResidualCode`` page.
///
/// The directory has `created_by`, `config` (the base's `config.json`, where merging changed it), `added` (names of tensors that
/// merging added) and `tensors`, each with `name`, `dtype`, `shape` of the base, `merged_dtype`, `merged_shape`,
/// `prediction`, `stored_rows`, `elements_per_page`, `updates` (pairs of scale and weight) and `pages` (positions in the file).
struct UndoRecord: Sendable {
  /// What the base's elements are predicted from.
  enum Prediction: String, Sendable {
    /// The merged elements less the delta, in the arithmetic of merging; only for deltas that have the same bits
    /// everywhere.
    case subtract
    /// The merged elements.
    case merged
    /// Nothing: the page holds the base's bytes.
    case nothing
  }

  /// What the record holds of one tensor.
  struct Tensor: Sendable {
    var base: TensorInfo
    var mergedDType: DType
    var mergedShape: Shape
    var prediction: Prediction
    /// Rows of the stored matrix that blocks are cut from.
    var storedRows: Int
    var elementsPerPage: Int
    /// Scale and weight of every update, in order.
    var updates: [(scale: Double, weight: Double)]
    var pages: [UInt64] = []

    /// Number of pages.
    var pageCount: Int {
      (base.shape.elementCount + elementsPerPage - 1) / max(1, elementsPerPage)
    }

    /// The elements of a page.
    func elements(of page: Int) -> Range<Int> {
      page * elementsPerPage..<min(base.shape.elementCount, (page + 1) * elementsPerPage)
    }
  }

  var tensors: [Tensor] = []
  var config: String?
  var added: [TensorName] = []

  static let magic: [UInt8] = Array("LRAUNDO".utf8) + [0]
  static let closingMagic: [UInt8] = Array("UNDO".utf8)
  static let version: UInt32 = 1
  static let headerSize: UInt64 = 16
  static let trailerSize: UInt64 = 24
  static let pageHeaderSize = 12
}

extension UndoRecord {
  /// The directory as JSON text.
  var json: String {
    var members: [JSONValue.Member] = [
      .init("created_by", .string("lora-surgery \(Version.current)"))
    ]
    if let config { members.append(.init("config", .string(config))) }
    members.append(.init("added", .array(added.map { .string($0.text) })))
    members.append(.init("tensors", .array(tensors.map(\.json))))
    return JSONValue.object(members).text()
  }

  /// Reads a directory.
  ///
  /// - Throws: `undo.damaged`.
  init(_ json: JSONValue) throws(SurgeryError) {
    guard let tensors = json["tensors"]?.elements else { throw Self.damaged("tensors") }
    for entry in tensors { self.tensors.append(try Tensor(entry)) }
    config = json["config"]?.text
    for name in json["added"]?.elements ?? [] {
      guard let text = name.text else { throw Self.damaged("added") }
      added.append(TensorName(text))
    }
  }

  static func damaged(_ part: String) -> SurgeryError {
    SurgeryError(
      .data, "undo.damaged", "the directory of the undo record is damaged", found: part)
  }
}

extension UndoRecord.Tensor {
  fileprivate var json: JSONValue {
    .object([
      .init("name", .string(base.name.text)),
      .init("dtype", .string(base.dtype.name)),
      .init("shape", .array(base.shape.dimensions.map { .integer($0) })),
      .init("merged_dtype", .string(mergedDType.name)),
      .init("merged_shape", .array(mergedShape.dimensions.map { .integer($0) })),
      .init("prediction", .string(prediction.rawValue)),
      .init("stored_rows", .integer(storedRows)),
      .init("elements_per_page", .integer(elementsPerPage)),
      .init(
        "updates",
        .array(updates.map { .array([.number("\($0.scale)"), .number("\($0.weight)")]) })),
      .init("pages", .array(pages.map { .number("\($0)") })),
    ])
  }

  fileprivate init(_ json: JSONValue) throws(SurgeryError) {
    guard let name = json["name"]?.text, let shape = Self.shape(json["shape"]),
      let mergedShape = Self.shape(json["merged_shape"]),
      let dtype = json["dtype"]?.text.flatMap({ DType(safetensorsName: $0) }),
      let mergedDType = json["merged_dtype"]?.text.flatMap({ DType(safetensorsName: $0) }),
      let prediction = json["prediction"]?.text.flatMap(UndoRecord.Prediction.init),
      let storedRows = json["stored_rows"]?.integer, storedRows > 0,
      let elementsPerPage = json["elements_per_page"]?.integer, elementsPerPage > 0,
      elementsPerPage <= 1 << 30,
      let base = TensorInfo(name: TensorName(name), dtype: dtype, shape: shape)
    else { throw UndoRecord.damaged(json["name"]?.text ?? "a tensor") }
    self.init(
      base: base, mergedDType: mergedDType, mergedShape: mergedShape, prediction: prediction,
      storedRows: storedRows, elementsPerPage: elementsPerPage, updates: [])
    for update in json["updates"]?.elements ?? [] {
      guard let numbers = update.elements, numbers.count == 2, let scale = numbers[0].double,
        let weight = numbers[1].double
      else { throw UndoRecord.damaged(name) }
      updates.append((scale, weight))
    }
    for page in json["pages"]?.elements ?? [] {
      guard let position = page.integer, position >= 0 else { throw UndoRecord.damaged(name) }
      pages.append(UInt64(position))
    }
    let columns = shape.elementCount / storedRows
    guard pages.count == pageCount,
      prediction == .nothing || (mergedShape == shape && mergedDType == dtype),
      prediction != .subtract
        || (dtype.isFloatingPoint && shape.elementCount == columns * storedRows && columns > 0
          && elementsPerPage % columns == 0)
    else { throw UndoRecord.damaged(name) }
  }

  private static func shape(_ json: JSONValue?) -> Shape? {
    guard let elements = json?.elements else { return nil }
    let dimensions = elements.compactMap(\.integer)
    return dimensions.count == elements.count ? Shape(dimensions) : nil
  }
}
