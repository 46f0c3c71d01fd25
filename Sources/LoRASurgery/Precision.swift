/// The precision of the arithmetic.
public enum Precision: String, Sendable, Codable, CaseIterable {
  /// Single precision where the result, rounded once, does not need more.
  case float32
  /// Double precision throughout.
  case float64
}
