public import Tensors

/// One budget spent over many tensors, where a singular value buys the most energy for its cost.
///
/// Because each spectrum descends, and one rank of a tensor costs the same as the next, taking values greedily by energy
/// per cost keeps, for what is spent, the most energy possible (Eckart & Young 1936 within a tensor, exchange between
/// them). What is left where the next value no longer fits goes to the best values that do.
public struct RankBudget: Sendable {
  /// One tensor that competes for the budget.
  public struct Item: Sendable {
    /// Its leading singular values.
    public var spectrum: Spectrum
    /// What one rank costs, in the unit of the budget: bytes or parameters, `rows + columns` of them.
    public var costPerRank: Int
    /// The rank that it gets in any case, and the most it may get.
    public var bounds: ClosedRange<Int>

    /// Describes a tensor.
    ///
    /// - Parameters:
    ///   - spectrum: Its leading singular values; it never gets more ranks than there are.
    ///   - costPerRank: What one rank costs, at least 1.
    ///   - bounds: The least and the largest rank.
    public init(spectrum: Spectrum, costPerRank: Int, bounds: ClosedRange<Int> = 0...Int.max) {
      precondition(costPerRank > 0, "a rank costs at least 1, not \(costPerRank)")
      self.spectrum = spectrum
      self.costPerRank = costPerRank
      self.bounds = bounds
    }
  }

  /// The rank of each item, in the order given.
  public let ranks: [Int]
  /// What the ranks cost together.
  public let cost: Int
  /// The items whose every known value was taken though more may exist: their spectra were too short to be sure.
  public let exhausted: [Int]

  /// Spends a budget.
  ///
  /// - Parameters:
  ///   - budget: The most that all ranks may cost.
  ///   - items: The tensors; of equal gains per cost, the earlier item's comes first.
  /// - Throws: `SurgeryError` with id `rank.budget` where the least ranks, or any rank at all, cost more.
  /// - Complexity: O(*n* log *n*) in the number of singular values.
  public init(_ budget: Int, over items: [Item]) throws(SurgeryError) {
    var ranks = items.map { min($0.bounds.lowerBound, $0.spectrum.values.count) }
    var cost = 0
    for (item, rank) in zip(items, ranks) {
      let (product, overflow) = item.costPerRank.multipliedReportingOverflow(by: rank)
      let (sum, beyond) = cost.addingReportingOverflow(product)
      guard !overflow, !beyond, sum <= budget else {
        throw Self.tooSmall(budget, "the least ranks")
      }
      cost = sum
    }
    var candidates: [(gain: Double, item: Int)] = []
    for (index, item) in items.enumerated() {
      let last = min(item.bounds.upperBound, item.spectrum.values.count)
      for value in item.spectrum.values[..<last].dropFirst(ranks[index]) where value > 0 {
        candidates.append((value * value / Double(item.costPerRank), index))
      }
    }
    candidates.sort { ($1.gain, $0.item) < ($0.gain, $1.item) }
    var closed = [Bool](repeating: false, count: items.count)
    for candidate in candidates where !closed[candidate.item] {
      if items[candidate.item].costPerRank <= budget - cost {
        cost += items[candidate.item].costPerRank
        ranks[candidate.item] += 1
      } else {
        // A later value of the same tensor without this one would be no truncation.
        closed[candidate.item] = true
      }
    }
    if cost == 0, !candidates.isEmpty { throw Self.tooSmall(budget, "a single rank") }
    self.ranks = ranks
    self.cost = cost
    exhausted = items.indices.filter {
      let spectrum = items[$0].spectrum
      return !spectrum.isComplete && ranks[$0] == spectrum.values.count
        && ranks[$0] < items[$0].bounds.upperBound
    }
  }

  private static func tooSmall(_ budget: Int, _ what: String) -> SurgeryError {
    SurgeryError(
      .usage, "rank.budget", "the budget does not pay for \(what)", found: "\(budget)",
      hint: "raise the budget or lower the least rank")
  }
}
