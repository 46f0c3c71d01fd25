import Adapters
import Checkpoints
import Tensors

/// Runs the search and the fit of all tensors on all workers, with one budget between them where there is one.
struct Extraction {
  let plan: ExtractPlan
  let execution: Execution
  let factoring: TensorFactoring

  /// Extracts all tensors.
  ///
  /// - Parameter check: Receives, before anything is factored, which of the pairs differ.
  /// - Returns: What the adapter keeps, one entry a pair.
  /// - Throws: What `check` and reading throw.
  func run(
    checking check: (_ isChanged: [Bool]) throws(SurgeryError) -> Void
  ) throws(SurgeryError) -> [ExtractedTensor] {
    execution.progress.begin("extracting", total: 2 * plan.byteCount)
    let isChanged = try map { (pair, _) throws(SurgeryError) in
      guard
        try pair.tuned.hasSameBytes(as: pair.base, interruption: execution.interruption)
      else { return true }
      execution.progress.advance(by: 2 * pair.tuned.info.byteCount)
      return false
    }
    try check(isChanged)
    if let budget = plan.budget { return try run(within: budget, isChanged) }
    return try map { (pair, index) throws(SurgeryError) in
      guard isChanged[index] else { return .unchanged(pair) }
      defer { execution.progress.advance(by: 2 * pair.tuned.info.byteCount) }
      return try factoring.extract(pair)
    }
  }

  /// Finds more directions than the budget will pay for, then lets the budget choose among all of them.
  private func run(
    within budget: RankOptions.Budget, _ isChanged: [Bool]
  ) throws(SurgeryError) -> [ExtractedTensor] {
    var limits = plan.pairs.map { $0.initialLimit(plan, budget) }
    var searched = try map { [limits] (pair, index) throws(SurgeryError) in
      guard isChanged[index] else { return SearchedTensor.settled(.unchanged(pair)) }
      return try search(pair, limit: limits[index])
    }
    while true {
      let open = searched.indices.filter { if case .open = searched[$0] { true } else { false } }
      let allocation = try RankAllocation(
        open.compactMap { index in
          guard case .open(let delta) = searched[index] else { return nil }
          return RankAllocation.Item(
            spectrum: delta.spectrum,
            rule: delta.ownRank.map { RankRule(.fixed($0), within: $0...$0) }
              ?? plan.pairs[index].rule,
            dtype: factoring.request.dtype ?? plan.pairs[index].tuned.info.dtype, defaultRank: 0)
        }, budget: budget, parameters: plan.parameterCount)
      let short = allocation.exhausted.map { open[$0] }.filter {
        limits[$0] < plan.pairs[$0].largestRank
      }
      guard !short.isEmpty else {
        let ranks = Dictionary(uniqueKeysWithValues: zip(open, allocation.ranks))
        let settled = searched
        return try map { (pair, index) throws(SurgeryError) in
          guard isChanged[index] else { return .unchanged(pair) }
          return try finish(pair, settled[index], rank: ranks[index] ?? 0)
        }
      }
      // A tensor whose known values were all bought may have more worth buying.
      for index in short {
        limits[index] = min(plan.pairs[index].largestRank, limits[index] * 2)
        searched[index] = try search(plan.pairs[index], limit: limits[index])
      }
    }
  }

  private func search(
    _ pair: ExtractPlan.Pair, limit: Int
  ) throws(SurgeryError) -> SearchedTensor {
    defer { execution.progress.advance(by: pair.tuned.info.byteCount) }
    return try factoring.search(pair, limit: limit)
  }

  private func finish(
    _ pair: ExtractPlan.Pair, _ searched: SearchedTensor, rank: Int
  ) throws(SurgeryError) -> ExtractedTensor {
    defer { execution.progress.advance(by: pair.tuned.info.byteCount) }
    switch searched {
    case .settled(let extracted): return extracted
    case .open(let delta): return try factoring.finish(pair, delta, rank: rank)
    }
  }

  private func map<Value: Sendable>(
    _ body: @escaping @Sendable (ExtractPlan.Pair, Int) throws(SurgeryError) -> Value
  ) throws(SurgeryError) -> [Value] {
    let pairs = plan.pairs
    return try Workers(count: execution.jobs).map(
      pairs.count, cost: { pairs[$0].tuned.info.shape.elementCount },
      interruption: execution.interruption
    ) { (index) throws(SurgeryError) in try body(pairs[index], index) }
  }
}
