import Tensors

/// A table of text with columns aligned, names cut in front where the terminal is narrow.
///
/// Columns without a value in any row are left out.
struct TextTable {
  enum Alignment { case left, right }

  private let header: [String]
  private let alignments: [Alignment]
  private var rows: [[String]] = []

  init(_ columns: [(title: String, alignment: Alignment)]) {
    header = columns.map(\.title)
    alignments = columns.map(\.alignment)
  }

  mutating func add(_ cells: [String]) {
    rows.append(cells.map { DisplayText.escaped($0, limit: 400) })
  }

  /// The first rows with an empty line below them, and how many more there are; no line where there are no rows.
  func excerpt(rows count: Int, width: Int) -> [String] {
    guard !rows.isEmpty else { return [] }
    var table = self
    table.rows = Array(rows.prefix(count))
    let left = rows.count - table.rows.count
    return table.lines(width: width) + [""]
      + (left > 0 ? ["\(Console.ellipsis) and \(left) more, which --verbose shows"] : [])
  }

  /// The lines of the table.
  ///
  /// The first column gives way when `width` is too small. Names stand on a line of their own where too little would be left
  /// of the column, and those that would look like others.
  func lines(width: Int) -> [String] {
    let kept = header.indices.filter { column in
      column == 0 || rows.isEmpty || rows.contains { !$0[column].isEmpty }
    }
    if kept.count < header.count {
      var table = TextTable(kept.map { (header[$0], alignments[$0]) })
      table.rows = rows.map { row in kept.map { row[$0] } }
      return table.lines(width: width)
    }
    let all = [header] + rows
    var widths = header.indices.map { column in
      all.map { Self.columns(of: $0[column]) }.max() ?? 0
    }
    let others = widths.dropFirst().reduce(0) { $0 + $1 + 2 }
    let isStacked = min(widths[0], 12) + others > width
    widths[0] = min(widths[0], isStacked ? width : width - others)
    let names = Dictionary(grouping: Set(rows.map { $0[0] })) {
      Self.shortened($0, to: widths[0])
    }
    let lines = all.map { row in
      let name = Self.shortened(row[0], to: widths[0])
      var rest = row.indices.dropFirst().map { padded(row[$0], column: $0, to: widths[$0]) }
      if !isStacked {
        let isAmbiguous = names[name, default: []].count > 1
        let line = ([padded(isAmbiguous ? "" : name, column: 0, to: widths[0])] + rest)
          .joined(separator: "  ")
        return isAmbiguous ? [Self.shortened(row[0], to: width), line] : [line]
      }
      guard alignments.last == .left, let text = rest.popLast() else {
        return [name, (["  "] + rest).joined(separator: "  ")]
      }
      // Text in the last column goes on below itself.
      let indented = (["  "] + rest).joined(separator: "  ") + "  "
      let room = max(24, width - Self.columns(of: indented))
      let parts = Self.wrapped(text, to: room)
      return [name, indented + (parts.first ?? "")]
        + parts.dropFirst().map {
          String(repeating: " ", count: Self.columns(of: indented)) + $0
        }
    }
    return lines[0].map { Console.heading(Self.withoutTrailingSpaces($0)) }
      + lines.dropFirst().joined().map(Self.withoutTrailingSpaces)
  }

  private func padded(_ text: String, column: Int, to width: Int) -> String {
    let padding = String(repeating: " ", count: max(0, width - Self.columns(of: text)))
    return alignments[column] == .left ? text + padding : padding + text
  }

  /// Lines of whole words.
  static func wrapped(_ text: String, to width: Int) -> [String] {
    var lines: [String] = []
    for word in text.split(separator: " ") {
      if let last = lines.last, columns(of: last) + 1 + columns(of: String(word)) <= width {
        lines[lines.count - 1] += " " + word
      } else {
        lines.append(String(word))
      }
    }
    return lines
  }

  private static func withoutTrailingSpaces(_ line: String) -> String {
    var line = line
    while line.utf8.last == UInt8(ascii: " ") { line.removeLast() }
    return line
  }

  /// Columns of the terminal that a text takes; East Asian wide characters take two.
  static func columns(of text: String) -> Int {
    if text.utf8.allSatisfy({ $0 < 0x80 }) { return text.utf8.count }
    return text.unicodeScalars.reduce(0) { $0 + (isWide($1) ? 2 : isCombining($1) ? 0 : 1) }
  }

  private static func isWide(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF,
      0xA000...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60,
      0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD:
      true
    default: false
    }
  }

  private static func isCombining(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .enclosingMark: true
    default: false
    }
  }

  /// Cuts the front: the end of a tensor's name says most.
  private static func shortened(_ text: String, to width: Int) -> String {
    var excess = columns(of: text) - width
    guard excess > 0 else { return text }
    excess += columns(of: Console.ellipsis)
    var cut = text[...]
    while excess > 0, let first = cut.popFirst() { excess -= columns(of: String(first)) }
    return Console.ellipsis + cut
  }
}
