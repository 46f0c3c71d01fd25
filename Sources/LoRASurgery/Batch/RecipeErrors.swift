public import Tensors
public import YAML

extension SurgeryError {
  /// An error at a place of a recipe.
  public static func recipe(
    _ id: String, _ what: String, at mark: YAMLNode.Mark?, expected: String? = nil,
    found: String? = nil, hint: String? = nil
  ) -> Self {
    Self(
      .data, "recipe.\(id)", (mark.map { "\($0): " } ?? "") + what, expected: expected,
      found: found, hint: hint)
  }

  /// The error for a word that is none of those known here.
  public static func unknownWord(
    _ word: String, _ what: String, known: [String], at mark: YAMLNode.Mark
  ) -> Self {
    .recipe(
      "unknown", "\(what) \"\(DisplayText.escaped(word))\"", at: mark,
      hint: closest(to: word, in: known).map { "did you mean \"\($0)\"?" }
        ?? "known here: \(known.sorted().joined(separator: ", "))")
  }

  /// The known word that takes the fewest edits, if they are few for its length.
  static func closest(to word: String, in known: [String]) -> String? {
    let best = known.map { ($0, edits(from: word, to: $0)) }.min { ($0.1, $0.0) < ($1.1, $1.0) }
    guard let (name, distance) = best, distance <= max(1, name.count / 3) else { return nil }
    return name
  }

  /// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
  private static func edits(from first: String, to second: String) -> Int {
    let (a, b) = (Array(first.unicodeScalars.prefix(64)), Array(second.unicodeScalars.prefix(64)))
    var rows = [Array(0...b.count)]
    for (i, left) in a.enumerated() {
      var row = [i + 1]
      for (j, right) in b.enumerated() {
        var cost = min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (left == right ? 0 : 1))
        if i > 0, j > 0, left == b[j - 1], a[i - 1] == right {
          cost = min(cost, rows[i - 1][j - 1] + 1)
        }
        row.append(cost)
      }
      rows.append(row)
    }
    return rows[a.count][b.count]
  }
}
