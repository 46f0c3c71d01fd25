import Checkpoints
import Tensors

extension Resolver {
  /// Settles what square tensors leave open by the convention that the others of the same adapter show.
  ///
  /// One author writes one way: where every pair with a single solution has the same, it holds for the rest; this is said in the
  /// report.
  mutating func settle(_ modules: [ModuleUpdate]) -> [ModuleUpdate] {
    var seen = Set<UnsolvedPair.Convention>()
    var open = 0
    for module in modules {
      guard let pair = module.update as? UnsolvedPair, pair.convention == nil else { continue }
      let solutions = solutions(of: pair, module)
      if solutions.count == 1 { seen.formUnion(solutions) }
      if solutions.count > 1 { open += 1 }
    }
    guard open > 0, seen.count == 1, let convention = seen.first else { return modules }
    note("the order of the factors of square tensors is that of the others", tensors: open)
    return modules.map { module in
      guard var pair = module.update as? UnsolvedPair, pair.convention == nil else { return module }
      pair.convention = convention
      var settled = module
      settled.update = pair
      return settled
    }
  }
}
