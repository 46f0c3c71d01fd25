import Tensors

/// How a result is rounded to its storage dtype.
public enum RoundingMode: Sendable, Codable, Hashable {
  /// To nearest, ties to even.
  case nearest
  /// To one of both neighbours, with a probability that makes the expected value exact (Croci et al. 2022,
  /// doi:10.1098/rsos.211631). Small deltas then add up over many merges, where rounding to nearest loses each.
  case stochastic(seed: UInt64)
}

/// Stochastic rounding whose every decision depends on the seed, the tensor and the element alone.
struct StochasticRounding {
  private let key: UInt64
  private let format: FloatingPointFormat

  /// Prepares rounding; `nil` where the dtype is no narrower than float64 or is no floating-point type.
  init?(seed: UInt64, tensor: TensorName, dtype: DType) {
    guard dtype != .f64, let format = dtype.floatingPointFormat else { return nil }
    self.format = format
    // FNV-1a over the name, so that tensors of equal values do not share their decisions.
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in tensor.text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    key = Self.mixed(seed) ^ hash
  }

  /// The neighbour of `value` in the dtype that the element's own random number chooses.
  func rounded(_ value: Double, element: Int) -> Double {
    guard value.isFinite, value != 0 else { return value }
    let unit = format.unit(at: value)
    // Exact: the unit is a power of two.
    let units = value.magnitude / unit
    let below = units.rounded(.down)
    let random = Self.mixed(key &+ UInt64(truncatingIfNeeded: element))
    let goesUp = Double(random >> 11) * 0x1p-53 < units - below
    let magnitude = (goesUp ? below + 1 : below) * unit
    return value < 0 ? -magnitude : magnitude
  }

  /// The output function of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195).
  private static func mixed(_ input: UInt64) -> UInt64 {
    var z = input &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
