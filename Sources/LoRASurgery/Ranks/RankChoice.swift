public import LinearAlgebra
public import Tensors

/// How the rank of one tensor is found.
public struct RankRule: Sendable, Hashable {
  /// The rule that reads the rank off the spectrum; `nil` where the budget decides, or nothing was said.
  public var policy: RankPolicy?
  /// The least and the largest rank; the tensor's shape bounds both.
  public var bounds: ClosedRange<Int>

  /// Pairs a policy with its bounds.
  public init(_ policy: RankPolicy?, within bounds: ClosedRange<Int> = 0...Int.max) {
    self.policy = policy
    self.bounds = bounds
  }

  /// The rank that a spectrum gets.
  ///
  /// - Parameters:
  ///   - spectrum: The spectrum, as long as ``RankPolicy/rank(for:within:)`` wants it.
  ///   - rank: The rank where there is no policy.
  /// - Returns: The rank; what the known values bound where they do not decide.
  public func rank(for spectrum: Spectrum, orElse rank: Int) -> Int {
    (policy ?? .fixed(rank)).rank(for: spectrum, within: bounds) ?? spectrum.values.count
  }
}

/// Rank options, checked and compiled.
public struct RankChoice {
  /// One budget for all tensors whose rule has no policy.
  public let budget: RankOptions.Budget?
  /// Whether a rule or a budget was given that holds for every tensor.
  public let isComplete: Bool

  private let policy: RankPolicy?
  private let convRank: Int?
  private let bounds: ClosedRange<Int>
  private let named: [(pattern: NamePattern, rank: Int)]

  /// The rule for a tensor.
  ///
  /// - Parameters:
  ///   - name: The tensor's name in the base.
  ///   - kernel: The kernel's dimensions, for convolutions.
  /// - Returns: The rule; without policy where the budget decides, or where nothing was said.
  public func rule(for name: TensorName, kernel: [Int] = []) -> RankRule {
    rule(for: name, usesConvRank: kernel.contains { $0 > 1 })
  }

  /// The rule for a tensor that counts as a convolution or not, whatever its kernel.
  func rule(for name: TensorName, usesConvRank: Bool) -> RankRule {
    if let (_, rank) = named.first(where: { $0.pattern.matches(name.text) }) {
      return RankRule(.fixed(rank), within: rank...rank)
    }
    guard let convRank, usesConvRank else {
      return RankRule(policy, within: bounds)
    }
    switch policy {
    case nil where budget == nil, .fixed: return RankRule(.fixed(convRank))
    default:
      let most = min(convRank, bounds.upperBound)
      return RankRule(policy, within: min(bounds.lowerBound, most)...most)
    }
  }

  init(_ options: RankOptions) throws(SurgeryError) {
    try options.checkRanges()
    let given = options.policies
    guard given.count + (options.budget == nil ? 0 : 1) <= 1 else {
      throw SurgeryError(
        .usage, "rank.conflict", "more than one rule says what the ranks are",
        found: (given.map(\.option) + (options.budget == nil ? [] : ["--budget"]))
          .joined(separator: ", "),
        hint: "--max-rank and --min-rank bound the rank that a rule chooses")
    }
    policy = given.first?.policy
    budget = options.budget
    isComplete = policy != nil || budget != nil
    convRank = options.convRank
    let least = options.minRank ?? (budget != nil || options.noiseFloor ? 0 : 1)
    let most = options.maxRank ?? Int.max
    guard least <= most else {
      throw .rankRange("min-rank", expected: "at most --max-rank \(most)", found: "\(least)")
    }
    bounds = least...most
    var named: [(NamePattern, Int)] = []
    for entry in options.rankFor { named.append((try NamePattern(entry.pattern), entry.rank)) }
    self.named = named
  }
}

extension RankOptions {
  /// Checks the options and compiles them.
  ///
  /// - Parameter isRequired: Whether a rule must be given.
  /// - Returns: The choice.
  /// - Throws: `rank.range`, `rank.conflict`, `rank.missing` where nothing is said though it must be, `usage.regex`.
  public func choice(isRequired: Bool = false) throws(SurgeryError) -> RankChoice {
    let choice = try RankChoice(self)
    guard choice.isComplete || !isRequired else {
      throw SurgeryError(
        .usage, "rank.missing", "nothing says what the ranks are",
        hint: "give --rank N, --energy F, --max-error F, --budget SIZE or another rule")
    }
    return choice
  }

  fileprivate var policies: [(option: String, policy: RankPolicy)] {
    var given: [(String, RankPolicy)] = []
    if let rank { given.append(("--rank", .fixed(rank))) }
    if let energy { given.append(("--energy", .energy(energy))) }
    if let maxError { given.append(("--max-error", .maximumError(maxError))) }
    if noiseFloor { given.append(("--noise-floor", .noiseFloor)) }
    if let svRatio { given.append(("--sv-ratio", .svRatio(svRatio))) }
    if let svFro { given.append(("--sv-fro", .svFro(svFro))) }
    if let svCumulative { given.append(("--sv-cumulative", .svCumulative(svCumulative))) }
    return given
  }

  fileprivate func checkRanges() throws(SurgeryError) {
    for (option, rank, least) in [
      ("rank", rank, 1), ("conv-rank", convRank, 1), ("min-rank", minRank, 0),
      ("max-rank", maxRank, 1),
    ] {
      if let rank, rank < least {
        throw .rankRange(option, expected: "at least \(least)", found: "\(rank)")
      }
    }
    for (option, share) in [
      ("energy", energy), ("sv-fro", svFro), ("sv-cumulative", svCumulative),
    ] {
      if let share, !(share > 0 && share <= 1) {
        throw .rankRange(option, expected: "more than 0 and at most 1", found: "\(share)")
      }
    }
    if let maxError, !(maxError >= 0 && maxError < 1) {
      throw .rankRange("max-error", expected: "at least 0 and less than 1", found: "\(maxError)")
    }
    if let svRatio, !(svRatio >= 1 && svRatio.isFinite) {
      throw .rankRange("sv-ratio", expected: "at least 1", found: "\(svRatio)")
    }
    for named in rankFor where named.rank < 0 {
      throw .rankRange("rank-for", expected: "at least 0", found: "\(named.rank)")
    }
    switch budget {
    case .share(let share) where !(share > 0 && share <= 1):
      throw .rankRange("budget", expected: "more than 0 % and at most 100 %", found: "\(share)")
    case .bytes(let count) where count < 1:
      throw .rankRange("budget", expected: "at least 1 byte", found: "\(count)")
    default: break
    }
  }
}
