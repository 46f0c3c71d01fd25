public import Tensors

/// A renaming of tensors in the form of sed's substitution: `s/REGEX/TEMPLATE/`.
///
/// Every match in a name is replaced; `$1` to `$9` and `$0` in the template, or `\1` as sed has it, stand for what the groups
/// matched, `$$` for a dollar.
public struct Renaming: Sendable, Codable, Hashable {
  /// The regular expression.
  public var pattern: String
  /// What takes the place of a match.
  public var template: String

  /// Parses `s/REGEX/TEMPLATE/`; any character may stand in the place of the slash.
  ///
  /// - Parameter text: The substitution.
  /// - Throws: `usage.rename` where the text has another form.
  public init(_ text: String) throws(SurgeryError) {
    let parts = text.dropFirst(2).split(
      separator: text.dropFirst().first ?? "/", omittingEmptySubsequences: false)
    guard text.hasPrefix("s"), parts.count == 3, parts[2].isEmpty, !parts[0].isEmpty else {
      throw SurgeryError(
        .usage, "usage.rename", "a renaming has the form s/REGEX/TEMPLATE/", found: text)
    }
    pattern = String(parts[0])
    template = String(parts[1])
  }

  /// The renaming as a function of names.
  ///
  /// - Returns: The function.
  /// - Throws: `usage.regex` where the pattern does not parse.
  func compiled() throws(SurgeryError) -> (String) -> String {
    let regex: Regex<AnyRegexOutput>
    do { regex = try Regex(pattern) } catch {
      throw SurgeryError(
        .usage, "usage.regex", "the regular expression does not parse", found: pattern)
    }
    let template = Array(template)
    return { name in
      name.replacing(regex) { match in
        var out = ""
        var index = 0
        while index < template.count {
          if template[index] == "$" || template[index] == "\\", index + 1 < template.count {
            index += 1
            if let group = template[index].wholeNumberValue {
              out += group < match.output.count ? match.output[group].substring ?? "" : ""
            } else {
              out.append(template[index])
            }
          } else {
            out.append(template[index])
          }
          index += 1
        }
        return out
      }
    }
  }
}
