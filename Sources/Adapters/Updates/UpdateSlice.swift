/// The part of an update that changes some rows.
struct UpdateSlice {
  /// The part; `nil` where nothing changes there.
  var update: (any Update)?
}

extension Update {
  /// The part of the update that changes some rows, where its kind can be cut.
  func slice(rows: Range<Int>) -> UpdateSlice? {
    guard rows.upperBound <= self.rows else { return nil }
    switch self {
    case var pair as LowRank:
      pair.up = pair.up.rows(rows)
      return UpdateSlice(update: pair)
    case var difference as FullDifference:
      difference.difference = difference.difference.rows(rows)
      return UpdateSlice(update: difference)
    case let fused as PartedLowRank:
      var parts: [(rows: Range<Int>, update: LowRank)] = []
      for (own, pair) in fused.parts {
        let common = own.clamped(to: rows)
        if common.isEmpty { continue }
        var part = pair
        part.up = pair.up.rows(
          (common.lowerBound - own.lowerBound)..<(common.upperBound - own.lowerBound))
        if common == rows { return UpdateSlice(update: part) }
        parts.append(
          ((common.lowerBound - rows.lowerBound)..<(common.upperBound - rows.lowerBound), part))
      }
      return UpdateSlice(
        update: parts.isEmpty ? nil : PartedLowRank(parts: parts, rows: rows.count))
    case let stack as StackedLowRank:
      return stack.slice(rows: rows).map { UpdateSlice(update: $0) }
    default: return nil
    }
  }
}
