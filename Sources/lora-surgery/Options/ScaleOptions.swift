import ArgumentParser
import LoRASurgery

/// Factors for the deltas of some tensors.
struct ScaleOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Multiply the deltas of tensors whose names match (repeatable; the first that matches counts).",
      valueName: "regex=factor"))
  var scaleFor: [String] = []

  func validate() throws { _ = try rules() }

  /// The options as the library takes them.
  func rules() throws -> [ScaleRule] {
    try scaleFor.map { text in
      guard let equals = text.lastIndex(of: "="),
        let factor = Double(text[text.index(after: equals)...]), factor.isFinite
      else { throw ValidationError("--scale-for takes REGEX=NUMBER, not '\(text)'") }
      return ScaleRule(pattern: String(text[..<equals]), factor: factor)
    }
  }
}
