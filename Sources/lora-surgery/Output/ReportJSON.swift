import FoundationEssentials
import Tensors

/// Reports as JSON text.
enum ReportJSON {
  /// One line; keys are in snake case and sorted, so that the same report gives the same text.
  ///
  /// - Throws: `bug.json` where a report holds a number that JSON lacks.
  static func text(_ report: some Encodable) throws(SurgeryError) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do {
      return String(decoding: try encoder.encode(report), as: UTF8.self)
    } catch {
      throw SurgeryError(.bug, "bug.json", "the report cannot be written as JSON: \(error)")
    }
  }
}
