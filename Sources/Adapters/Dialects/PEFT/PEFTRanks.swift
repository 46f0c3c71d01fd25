import Checkpoints

/// The ranks and alphas of modules as configurations have them: the commonest for all, the others by patterns.
struct PEFTRanks {
  struct Module {
    var path: String
    var rank: Int
    var alpha: Double
  }

  private let modules: [Module]

  init(_ modules: [Module]) { self.modules = modules }

  /// The fields `r`, the one for alpha, `rank_pattern` and `alpha_pattern`.
  func members(alphaField: String) -> [JSONValue.Member] {
    let rank = Self.commonest(modules.map(\.rank)) ?? 8
    let alpha = Self.commonest(modules.map(\.alpha)) ?? Double(rank)
    // A full name also matches as the end of a longer one; PEFT 0.15 and later anchor what begins with '^'.
    var ends = Set<Substring>()
    for path in modules.map(\.path) {
      for index in path.indices where path[index] == "." {
        ends.insert(path[path.index(after: index)...])
      }
    }
    func pattern(_ path: String) -> String { ends.contains(path[...]) ? "^\(path)" : path }
    let ranks = modules.filter { $0.rank != rank }.map {
      JSONValue.Member(pattern($0.path), .integer($0.rank))
    }
    let alphas = modules.filter { $0.alpha != alpha }.map {
      JSONValue.Member(pattern($0.path), .double($0.alpha))
    }
    return [
      .init("r", .integer(rank)), .init(alphaField, .double(alpha)),
      .init("rank_pattern", .object(ranks)), .init("alpha_pattern", .object(alphas)),
    ]
  }

  /// The value that occurs most often; the first of those in the order of the modules.
  static func commonest<Value: Hashable>(_ values: [Value]) -> Value? {
    var counts: [Value: Int] = [:]
    for value in values { counts[value, default: 0] += 1 }
    let most = counts.values.max() ?? 0
    return values.first { counts[$0] == most }
  }
}
