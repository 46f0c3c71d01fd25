/// Another name under which adapters know a module of the base, or a part of one.
struct Alias: Sendable, Hashable {
  /// The other name.
  var module: String
  /// The equal parts, or the run of rows, of the base's tensor that the name stands for.
  var part: Part = .whole
  /// The place of the base's tensor, or of its part, among those that together make up the module of that name; `nil` where
  /// it is the module itself.
  var piece: Int?

  /// Which rows of the base's tensor are meant.
  enum Part: Sendable, Hashable {
    case whole
    /// One of several equal blocks of rows.
    case block(Int, of: Int)
    /// Rows counted in multiples of the tensor's columns; without an end, up to the last.
    case widths(Int, Int?)

    /// The rows in numbers.
    func rows(of rows: Int, columns: Int) -> Range<Int>? {
      switch self {
      case .whole: return 0..<rows
      case .block(let index, let count):
        guard rows % count == 0 else { return nil }
        let size = rows / count
        return (index * size)..<((index + 1) * size)
      case .widths(let first, let last):
        let end = last.map { $0 * columns } ?? rows
        guard first * columns < end, end <= rows else { return nil }
        return (first * columns)..<end
      }
    }
  }
}
