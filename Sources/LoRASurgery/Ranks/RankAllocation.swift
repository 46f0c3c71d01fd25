public import LinearAlgebra
public import Tensors

/// The ranks of several tensors, each by its own rule or all under one budget.
public struct RankAllocation: Sendable {
  /// One tensor that gets a rank.
  public struct Item: Sendable {
    /// Its singular values.
    public var spectrum: Spectrum
    /// How its rank is found.
    public var rule: RankRule
    /// The dtype that its factors are stored in.
    public var dtype: DType
    /// The rank where nothing was said.
    public var defaultRank: Int

    /// Describes a tensor.
    ///
    /// - Parameters:
    ///   - spectrum: Its singular values.
    ///   - rule: How its rank is found.
    ///   - dtype: The dtype that its factors are stored in.
    ///   - defaultRank: The rank where nothing was said.
    public init(spectrum: Spectrum, rule: RankRule, dtype: DType, defaultRank: Int) {
      self.spectrum = spectrum
      self.rule = rule
      self.dtype = dtype
      self.defaultRank = defaultRank
    }
  }

  /// The rank of each item, in the order given.
  public let ranks: [Int]
  /// The items whose known values were all taken under a budget though more may exist.
  public let exhausted: [Int]

  /// Chooses the ranks.
  ///
  /// - Parameters:
  ///   - items: The tensors.
  ///   - budget: The budget of the tensors whose rule has no policy; what rules with a policy cost comes off it first.
  ///   - parameters: The number of parameters that a share refers to.
  /// - Throws: `rank.budget` where the least ranks, or any rank at all, cost more.
  public init(
    _ items: [Item], budget: RankOptions.Budget?, parameters: Int
  ) throws(SurgeryError) {
    var ranks = items.map { $0.rule.rank(for: $0.spectrum, orElse: $0.defaultRank) }
    guard let budget else {
      self.ranks = ranks
      exhausted = []
      return
    }
    func cost(_ item: Item) -> Int {
      let elements = max(1, item.spectrum.rows + item.spectrum.columns)
      return switch budget {
      case .bytes: item.dtype.byteCount(ofElements: elements) ?? elements
      case .share: elements
      }
    }
    var left =
      switch budget {
      case .bytes(let count): count
      case .share(let share): Int(share * Double(parameters))
      }
    let open = items.indices.filter { items[$0].rule.policy == nil }
    for index in items.indices where items[index].rule.policy != nil {
      left -= ranks[index] * cost(items[index])
    }
    let spent = try RankBudget(
      left,
      over: open.map {
        RankBudget.Item(
          spectrum: items[$0].spectrum, costPerRank: cost(items[$0]),
          bounds: items[$0].rule.bounds)
      })
    for (index, rank) in zip(open, spent.ranks) { ranks[index] = rank }
    self.ranks = ranks
    exhausted = spent.exhausted.map { open[$0] }
  }
}
