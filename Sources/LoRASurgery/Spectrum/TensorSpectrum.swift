import Checkpoints
import LinearAlgebra
public import Tensors

/// The singular values of one tensor's delta, and what follows from them.
public struct TensorSpectrum: Sendable, Codable {
  /// What was found out about a tensor.
  public enum Action: String, Sendable, Codable, CaseIterable {
    /// The delta is a matrix with a spectrum.
    case decomposed
    /// The tensor differs but is no matrix: an extraction keeps it in full.
    case full
    /// Base and tuned hold the same values.
    case unchanged
    /// The tensor took no part, for the reason given.
    case skipped
  }

  /// The tensor's name.
  public var tensor: TensorName
  /// The name through its first number, such as `model.layers.3`.
  public var layer: String?
  /// The place within the layer, later numbers as stars: `mlp.experts.*.w1`.
  public var projection: String
  /// What was found out.
  public var action: Action
  /// Why, where that is not plain.
  public var reason: String?
  /// The tensor's dimensions.
  public var shape: Shape
  /// The dtype in the tuned model, in which costs are counted.
  public var dtype: String?
  /// The Frobenius norm of the delta.
  public var deltaNorm: Double?
  /// The leading singular values, descending.
  public var values: [Double]?
  /// The share of the energy that the ranks 1, 2, 3 … capture, one for each of ``values``.
  public var energy: [Double]?
  /// Whether all singular values were found, though fewer may be listed.
  public var complete: Bool?
  /// The squared Frobenius norm over the squared largest singular value.
  public var stableRank: Double?
  /// The exponential of the entropy of the singular values; needs all of them.
  public var effectiveRank: Double?
  /// What each rank adds to the factors, in bytes.
  public var bytesPerRank: Int?
  /// Bytes of the tensor itself, which factors should stay below.
  public var bytes: Int?
  /// What each rule chooses.
  public var policies: [PolicyOutcome]?

  /// The spectrum as long as it is known; what totals are made from.
  var spectrum: Spectrum?

  private enum CodingKeys: String, CodingKey {
    case tensor, layer, projection, action, reason, shape, dtype, deltaNorm
    case values, energy, complete, stableRank, effectiveRank, bytesPerRank, bytes, policies
  }

  /// Describes a tensor without a spectrum.
  init(_ pair: ExtractPlan.Pair, _ action: Action, reason: String? = nil) {
    self.init(pair.tuned.name, action, shape: pair.tuned.info.shape, reason: reason)
    dtype = pair.tuned.info.dtype.name
    bytes = pair.tuned.info.byteCount
  }

  /// Describes a tensor by what names and shapes tell.
  init(_ tensor: TensorName, _ action: Action, shape: Shape, reason: String?) {
    let place = TensorPlace(tensor)
    self.tensor = tensor
    layer = place.layer
    projection = place.projection
    self.action = action
    self.reason = reason
    self.shape = shape
  }

  /// Describes a delta by its spectrum.
  init(_ pair: ExtractPlan.Pair, _ spectrum: Spectrum, leading: Int) {
    self.init(pair, .decomposed)
    self.spectrum = spectrum
    deltaNorm = spectrum.totalEnergy.squareRoot()
    values = Array(spectrum.values.prefix(leading))
    var sum = 0.0
    energy = values?.map { value in
      sum += value * value
      return min(1, sum / spectrum.totalEnergy)
    }
    complete = spectrum.isComplete
    stableRank = spectrum.stableRank
    effectiveRank = spectrum.effectiveRank
    let perRank = pair.tuned.info.dtype.byteCount(ofElements: spectrum.rows + spectrum.columns) ?? 0
    bytesPerRank = perRank
    policies = SpectrumPolicy.all.map {
      PolicyOutcome($0, of: spectrum, bytesPerRank: perRank, bytes: pair.tuned.info.byteCount)
    }
  }

  /// The share of the energy that a rank captures, as far as values are known.
  func capturedEnergy(rank: Int) -> Double {
    guard let spectrum, spectrum.totalEnergy > 0 else { return 0 }
    return min(1, spectrum.energy(rank: rank) / spectrum.totalEnergy)
  }
}

/// What one rule chooses for one tensor.
public struct PolicyOutcome: Sendable, Codable, Hashable {
  /// The rule as the option of `extract`, such as `--energy 0.95`.
  public var option: String
  /// The rank; absent where the rule needs more singular values than are known.
  public var rank: Int?
  /// Bytes of the factors, or of the whole tensor where that is less.
  public var bytes: Int?
  /// The share of the energy that the rank captures.
  public var capturedEnergy: Double?

  init(_ policy: SpectrumPolicy, of spectrum: Spectrum, bytesPerRank: Int, bytes: Int) {
    option = policy.option
    guard let rank = policy.policy.rank(for: spectrum, within: policy.leastRank...Int.max) else {
      return
    }
    self.rank = rank
    self.bytes = min(rank * bytesPerRank, bytes)
    capturedEnergy =
      self.bytes == bytes
      ? 1 : min(1, spectrum.energy(rank: rank) / spectrum.totalEnergy)
  }
}

/// A rule that the spectra are asked about.
struct SpectrumPolicy: Sendable {
  let option: String
  let policy: RankPolicy
  /// The least rank that `extract` gives under this rule.
  let leastRank: Int

  /// The rules, in the order of their columns.
  static let all =
    [0.5, 0.9, 0.95, 0.99].map { Self(option: "--energy \($0)", policy: .energy($0), leastRank: 1) }
    + [0.3, 0.1].map {
      Self(option: "--max-error \($0)", policy: .maximumError($0), leastRank: 1)
    } + [Self(option: "--noise-floor", policy: .noiseFloor, leastRank: 0)]
}
