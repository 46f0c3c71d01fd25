import FoundationEssentials
import Tensors

/// Values as JSON text that other processes read: the same value gives the same text.
enum ManifestJSON {
  /// The text of a value, in one line with sorted keys.
  ///
  /// - Throws: `bug.json` where the value has no JSON.
  static func text(_ value: some Encodable) throws(SurgeryError) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do {
      return String(decoding: try encoder.encode(value), as: UTF8.self)
    } catch {
      throw SurgeryError(.bug, "bug.json", "the value cannot be written as JSON: \(error)")
    }
  }

  /// The value of a text; `nil` where the text holds none of this type.
  static func value<Value: Decodable>(_ type: Value.Type, from text: String) -> Value? {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try? decoder.decode(type, from: Data(text.utf8))
  }
}
