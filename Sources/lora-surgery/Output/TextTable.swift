import Tensors

/// A table of text with columns aligned, names cut in front where the terminal is narrow.
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

  /// The lines of the table; the first column gives way when `width` is too small.
  func lines(width: Int) -> [String] {
    let all = [header] + rows
    var widths = header.indices.map { column in
      all.map { Self.columns(of: $0[column]) }.max() ?? 0
    }
    let others = widths.dropFirst().reduce(0) { $0 + $1 + 2 }
    widths[0] = max(12, min(widths[0], width - others))
    return all.map { row in
      var line = ""
      for (column, cell) in row.enumerated() {
        let text = column == 0 ? Self.shortened(cell, to: widths[0]) : cell
        let padding = String(repeating: " ", count: max(0, widths[column] - Self.columns(of: text)))
        if column > 0 { line += "  " }
        line += alignments[column] == .left ? text + padding : padding + text
      }
      while line.utf8.last == UInt8(ascii: " ") { line.removeLast() }
      return line
    }
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
    // The mark takes a column.
    excess += 1
    var cut = text[...]
    while excess > 0, let first = cut.popFirst() { excess -= columns(of: String(first)) }
    return "…" + cut
  }
}
