/// Text from files made safe to print.
public enum DisplayText {
  /// Returns `text` in one printable line of at most `limit` characters.
  ///
  /// Control, bidirectional, zero-width and line-breaking characters appear as `\u{202E}`, so that a tensor's
  /// name can neither forge a line of output nor reorder it on a terminal.
  public static func escaped(_ text: String, limit: Int = 120) -> String {
    if text.utf8.count <= limit, text.utf8.allSatisfy({ 0x20..<0x7F ~= $0 }) { return text }
    var out = ""
    var count = 0
    for scalar in text.unicodeScalars {
      if count == limit { return out + "…" }
      count += 1
      if isUnsafe(scalar) {
        out += "\\u{" + String(scalar.value, radix: 16, uppercase: true) + "}"
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  /// A noun as it stands after a number: `tensor` after 1, `tensors` after others.
  ///
  /// - Parameters:
  ///   - noun: The singular of a noun whose plural takes an s.
  ///   - number: The number that it follows.
  /// - Returns: The noun in the number that fits.
  public static func noun(_ noun: String, after number: some BinaryInteger) -> String {
    number == 1 ? noun : noun + "s"
  }

  private static func isUnsafe(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse,
      .unassigned:
      true
    default: false
    }
  }
}

extension Sequence<String> {
  /// The first names of a list for a message, with the number of those left out.
  package func listed(limit: Int = 10) -> String {
    let all = Array(self)
    let shown = all.prefix(limit).joined(separator: ", ")
    return all.count > limit ? "\(shown) and \(all.count - limit) more" : shown
  }
}

extension DefaultStringInterpolation {
  /// Appends a number and what it counts, given in the singular: `"\(1, counting: "tensor")"` is `1 tensor`.
  public mutating func appendInterpolation(_ number: some BinaryInteger, counting noun: String) {
    appendLiteral("\(number) \(DisplayText.noun(noun, after: number))")
  }
}
