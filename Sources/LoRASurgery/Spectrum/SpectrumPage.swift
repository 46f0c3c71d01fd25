import Checkpoints
import Tensors

/// A report as one page for the browser that needs nothing else.
///
/// The data lie in it as JSON, in which no character is left that means something to HTML; the script puts names on the
/// page as text only. The policy in the head forbids every request.
struct SpectrumPage {
  private let report: SpectrumReport

  init(_ report: SpectrumReport) { self.report = report }

  /// The page.
  var text: String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>Spectrum of a fine-tune</title>
    <style>
    \(Self.style)
    </style>
    </head>
    <body>
    \(Self.body)<script type="application/json" id="data">\(Self.escaped(data.text()))</script>
    <script>
    \(Self.script)
    </script>
    </body>
    </html>

    """
  }

  /// JSON in which strings hold no character that could end a script or open an element.
  private static func escaped(_ json: String) -> String {
    var out = ""
    out.reserveCapacity(json.utf8.count)
    for scalar in json.unicodeScalars {
      switch scalar {
      case "<", ">", "&", "\u{2028}", "\u{2029}":
        let digits = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  private var data: JSONValue {
    let totals = report.totals
    return .object([
      .init("version", .string(report.version)),
      .init("base", Self.name(report.base)),
      .init("tuned", Self.name(report.tuned)),
      .init("tensors", .integer(totals.tensors)),
      .init("changed", .integer(totals.changed)),
      .init("deltaNorm", Self.number(totals.deltaNorm)),
      .init("fullBytes", .integer(totals.fullBytes)),
      .init(
        "matrices", .array(report.modules.filter { $0.action == .decomposed }.map(Self.matrix))),
      .init(
        "policies",
        .array(
          totals.policies.map { policy in
            .object([
              .init("option", .string(policy.option)),
              .init("least", Self.integer(policy.leastRank)),
              .init("largest", Self.integer(policy.largestRank)),
              .init("undecided", .integer(policy.undecided)),
              .init("bytes", .integer(policy.bytes)),
              .init("captured", Self.number(policy.capturedEnergy)),
            ])
          })),
    ])
  }

  private static func matrix(_ tensor: TensorSpectrum) -> JSONValue {
    .object([
      .init("name", name(tensor.tensor.text)),
      .init("layer", tensor.layer.map(name) ?? .null),
      .init("projection", name(tensor.projection)),
      .init("shape", .string(tensor.shape.description)),
      .init("side", .integer(tensor.shorterSide)),
      .init("dtype", .string(tensor.dtype ?? "")),
      .init("norm", number(tensor.deltaNorm)),
      .init("stable", number(tensor.stableRank)),
      .init("effective", number(tensor.effectiveRank)),
      .init("perRank", .integer(tensor.bytesPerRank ?? 0)),
      .init("energy", .array((tensor.energy ?? []).map { number($0) })),
      .init("values", .array((tensor.values ?? []).map { number($0) })),
      .init("ranks", .array((tensor.policies ?? []).map { integer($0.rank) })),
    ])
  }

  /// Names with the characters that reorder or hide text made visible.
  private static func name(_ text: String) -> JSONValue {
    .string(DisplayText.escaped(text, limit: 400))
  }

  private static func integer(_ value: Int?) -> JSONValue { value.map(JSONValue.integer) ?? .null }

  /// Seven digits are more than a screen shows, and half the size.
  private static func number(_ value: Double?) -> JSONValue {
    guard let value, Float(value).isFinite else { return .null }
    return .number("\(Float(value))")
  }
}
