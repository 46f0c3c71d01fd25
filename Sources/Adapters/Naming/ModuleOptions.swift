import Tensors

/// The user's options with their patterns compiled.
struct ModuleOptions: Sendable {
  private let alphas: Rules<Double>
  private let scales: Rules<Double>
  private let fanInFanOut: Rules<Bool>
  private let parts: Rules<[Bool]>
  private let renamings: [(pattern: Pattern, replacement: String)]
  let rankScale: RankScale?

  init(_ options: AdapterOptions) throws(SurgeryError) {
    alphas = try Rules(options.alphas)
    scales = try Rules(options.scales)
    fanInFanOut = try Rules(options.fanInFanOut)
    parts = try Rules(options.enabledParts)
    rankScale = options.rankScale
    var compiled: [(pattern: Pattern, replacement: String)] = []
    for renaming in options.renamings {
      compiled.append((try Pattern(renaming.pattern), renaming.replacement))
    }
    renamings = compiled
  }

  /// The scale of a module, with the alpha it was made from.
  ///
  /// - Parameters:
  ///   - module: The module's name.
  ///   - rank: The rank that the rule divides by; at least 1.
  ///   - alpha: What the file says.
  ///   - rule: The file's own rule.
  /// - Returns: Both, `nil` where unknown.
  func scale(
    _ module: String, rank: Int, alpha: Double?, rule: RankScale = .alphaOverRank
  ) -> (scale: Double?, alpha: Double?) {
    if let scale = scales[module] { return (scale, nil) }
    guard let alpha = alphas[module] ?? alpha else { return (nil, nil) }
    return ((rankScale ?? rule).scale(alpha: alpha, rank: rank), alpha)
  }

  /// The scale of a module of a dialect that stores scales themselves.
  func scale(_ module: String, stored: Double) -> Double { scales[module] ?? stored }

  func isTransposed(_ module: String) -> Bool? { fanInFanOut[module] }

  func enabledParts(_ module: String) -> [Bool]? { parts[module] }

  /// A reference with the user's renamings applied.
  func renamed(_ reference: TargetReference) -> TargetReference {
    if renamings.isEmpty { return reference }
    var result = reference
    for (pattern, replacement) in renamings {
      result.module = pattern.replacing(in: result.module, with: replacement)
    }
    return result
  }

  /// Rules for modules: the first that matches, then the one for all.
  struct Rules<Value: Sendable & Hashable & Codable>: Sendable {
    private var patterns: [(text: String, pattern: Pattern, value: Value)] = []
    private var general: Value?

    init(_ rules: [AdapterOptions.Rule<Value>]) throws(SurgeryError) {
      for rule in rules {
        if let module = rule.module {
          patterns.append((module, try Pattern(module), rule.value))
        } else {
          general = rule.value
        }
      }
    }

    subscript(module: String) -> Value? {
      patterns.first { $0.text == module || $0.pattern.matchesPathEnd(of: module) }?.value
        ?? general
    }
  }
}
