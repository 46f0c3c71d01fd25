import Tensors

/// What an npz archive of this program holds besides arrays, placed where NumPy does not look.
///
/// The archive's members are its tensors and nothing else, so that `numpy.load(…).files` lists just these:
///
/// - A tensor of a type that NumPy lacks (BF16 and the float8 types) is an array of the unsigned integers of its width;
///   the comment of its entry in the directory records the type: `dtype=BF16`. With ml_dtypes:
///   `array.view(ml_dtypes.bfloat16)`; Python's `zipfile.ZipFile(path).getinfo(name).comment` shows the record.
/// - The metadata is the comment of the archive, as a JSON object `{"__metadata__":{…}}` with strings for values. A zip comment
///   has at most 65,535 bytes; longer metadata is the member `__metadata__.json`. In a folder of npy files it is a file of
///   that name.
enum NpzRecords {
  static let metadataMember = "__metadata__.json"
  private static let key = "__metadata__"
  private static let prefix = Array("dtype=".utf8)
  static let maximumComment = 65_535

  /// The comment that records a type, empty where NumPy has it.
  static func comment(on dtype: DType) -> [UInt8] {
    NumPyDType.needsRecord(dtype) ? prefix + Array(dtype.name.utf8) : []
  }

  /// The type that a comment records; other comments mean nothing here.
  static func dtype(inComment comment: [UInt8]) -> DType? {
    guard comment.starts(with: prefix),
      let name = String(validating: comment[prefix.count...], as: UTF8.self)
    else { return nil }
    return DType(safetensorsName: name)
  }

  /// Metadata as JSON text, sorted by key.
  static func text(of metadata: [String: String]) -> [UInt8] {
    let members = metadata.sorted { TensorName($0.key) < TensorName($1.key) }
    let object = JSONValue.object(members.map { .init($0.key, .string($0.value)) })
    return Array(JSONValue.object([.init(key, object)]).text().utf8)
  }

  /// The metadata in an archive's comment, or `nil` where the comment is something else.
  static func metadata(inComment comment: [UInt8]) -> [String: String]? {
    guard comment.first == UInt8(ascii: "{"), let value = try? JSONValue(parsing: comment) else {
      return nil
    }
    return strings(value)
  }

  /// The metadata in a member, or a file of a folder, of its own.
  ///
  /// - Throws: `npz.metadata` where it is something else.
  static func metadata(
    in value: JSONValue, of place: String
  ) throws(SurgeryError) -> [String: String] {
    guard let metadata = strings(value) else {
      throw SurgeryError(
        .data, "npz.metadata",
        "\"\(DisplayText.escaped(place))\" is not an object of strings under \"\(key)\"")
    }
    return metadata
  }

  private static func strings(_ value: JSONValue) -> [String: String]? {
    guard let members = value.members, members.count == 1,
      let pairs = value[key]?.members
    else { return nil }
    var metadata: [String: String] = [:]
    for pair in pairs {
      guard let text = pair.value.text else { return nil }
      metadata[pair.key] = text
    }
    return metadata
  }
}
