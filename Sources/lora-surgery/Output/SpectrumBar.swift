/// A horizontal bar of text.
struct BarText {
  /// Whether eighths of a column are drawn with block characters; plain hash signs otherwise.
  let blocks: Bool

  /// A bar of at most `width` columns; shares outside 0...1 are cut to it.
  func bar(_ share: Double, width: Int) -> String {
    let eighths = Int((min(1, max(0, share)) * Double(8 * width)).rounded())
    guard blocks else { return String(repeating: "#", count: (eighths + 4) / 8) }
    let partial = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
    return String(repeating: "█", count: eighths / 8) + partial[eighths % 8]
  }
}
