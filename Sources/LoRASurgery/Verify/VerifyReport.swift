public import Tensors

/// How far one tensor is from what merging gives.
public struct TensorVerification: Sendable, Codable {
  /// What was found.
  public enum Verdict: String, Sendable, Codable, CaseIterable {
    /// Every element has the expected bits.
    case exact
    /// No element is further away than one unit in the last place, or than sums of single precision in another order.
    case close
    /// Some element is further away.
    case off
    /// Another shape.
    case shape
    /// Another dtype, of which the values cannot be compared.
    case dtype
    /// Not in the merged model.
    case missing
    /// In the merged model alone.
    case extra
  }

  /// An accident that explains what was found.
  public enum Accident: String, Sendable, Codable {
    /// The tensor is the base's.
    case notApplied = "not applied"
    /// The delta was added twice.
    case mergedTwice = "merged twice"
    /// The delta was subtracted.
    case subtracted
    /// The delta was scaled by another factor.
    case wrongScale = "wrong scale"
    /// The transpose of the delta was added.
    case transposed
    /// The sum was computed or stored in low precision on the way.
    case lowPrecision = "low precision"
    /// The rest of the tensor is not the base's.
    case otherBase = "other base"
    /// The tensor changed although no adapter touches it.
    case untouchedChanged = "changed without an adapter"
  }

  /// The tensor's name.
  public var tensor: TensorName
  /// What was found.
  public var verdict: Verdict
  /// What explains it.
  public var accident: Accident?
  /// The explanation in words.
  public var reason: String?
  /// The share of the elements that have the expected bits.
  public var exactShare: Double?
  /// The largest distance in units in the last place.
  public var maximumUnits: UInt64?
  /// How much of the expected delta is there: 1 for all, by least squares.
  public var factor: Double?

  init(_ tensor: TensorName, _ verdict: Verdict, reason: String? = nil) {
    self.tensor = tensor
    self.verdict = verdict
    self.reason = reason
  }

  /// The order among tensors that pass, and among those that do not.
  fileprivate var badness: UInt64 { maximumUnits ?? (passes ? 0 : .max) }

  /// Whether the tensor is what merging gives, to the rounding of its dtype.
  public var passes: Bool { verdict == .exact || verdict == .close }
}

/// Whether a model is what merging gives.
public struct VerifyReport: Sendable, Codable {
  /// Always "verify".
  public var command = "verify"
  /// The program's version.
  public var version = Version.current
  /// One entry for each tensor, the worst first.
  public var modules: [TensorVerification]
  /// Whether every tensor is what merging gives, to the rounding of its dtype.
  public var verified: Bool
  /// The accident that explains most of the tensors that are off.
  public var accident: TensorVerification.Accident?
  /// That accident in words, where more than half of these tensors share them.
  public var explanation: String?
  /// What the user should know.
  public var warnings: [String]

  init(modules: [TensorVerification], warnings: [String]) {
    self.modules = modules.enumerated().sorted { left, right in
      let (a, b) = (left.element, right.element)
      if a.passes != b.passes { return !a.passes }
      let units = (a.badness, b.badness)
      return units.0 == units.1 ? left.offset < right.offset : units.0 > units.1
    }.map(\.element)
    verified = modules.allSatisfy(\.passes)
    let accident = Self.commonest(modules.compactMap { $0.accident?.rawValue })
    self.accident = accident.flatMap(TensorVerification.Accident.init)
    let reasons = modules.filter { $0.accident?.rawValue == accident }.compactMap(\.reason)
    let reason = Self.commonest(reasons)
    explanation = 2 * reasons.count { $0 == reason } > reasons.count ? reason : nil
    self.warnings = warnings
  }

  private static func commonest(_ texts: some Sequence<String>) -> String? {
    texts.reduce(into: [:]) { $0[$1, default: 0] += 1 }
      .max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
  }
}
