import LinearAlgebra
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
    // Tensors of equal values do not share their decisions.
    var name = StableHash()
    name.add(tensor.text)
    key = RandomSource.number(after: seed) ^ name.value
  }

  /// The neighbour of `value` in the dtype that the element's own random number chooses.
  func rounded(_ value: Double, element: Int) -> Double {
    guard value.isFinite, value != 0 else { return value }
    let unit = format.unit(at: value)
    // Exact: the unit is a power of two.
    let units = value.magnitude / unit
    let below = units.rounded(.down)
    let random = RandomSource.number(after: key &+ UInt64(truncatingIfNeeded: element))
    let goesUp = Double(random >> 11) * 0x1p-53 < units - below
    let magnitude = (goesUp ? below + 1 : below) * unit
    return value < 0 ? -magnitude : magnitude
  }
}
