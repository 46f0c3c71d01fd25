import LinearAlgebra
import Tensors

/// Known mistakes that multiply the delta of a tensor by one factor, and how far they explain the tensor.
struct ScaleMistake: Sendable {
  /// What the delta is multiplied by.
  let factor: Double
  /// What happened.
  let accident: TensorVerification.Accident
  /// That in words.
  private(set) var reason: String
  /// The squared distance of the tensor from what the mistake gives.
  private(set) var squaredDistance = 0.0
  /// The product of the delta with what the mistake changes.
  private(set) var product = 0.0
  /// For each grid, how many elements are further from what the mistake gives than rounding a few times more would be.
  private(set) var outliers: [Int] = []

  private init(factor: Double, accident: TensorVerification.Accident, reason: String) {
    self.factor = factor
    self.accident = accident
    self.reason = reason
  }

  /// Units in the last place, of the largest number that took part, that rounding a few times more may make.
  private static let units = 4.0

  /// Compares elements with what the mistake gives, rounded once as a merge rounds.
  mutating func compare(
    _ actual: [Double], base: [Double], delta: [Double], storedAs dtype: DType,
    on grids: [ValueGrid]
  ) {
    if outliers.isEmpty { outliers = [Int](repeating: 0, count: grids.count) }
    var sums = base
    for index in sums.indices { sums[index] += factor * delta[index] }
    let given = [Double](widening: sums.narrowed(to: dtype), from: dtype)
    for index in actual.indices {
      let distance = actual[index] - given[index]
      squaredDistance += distance * distance
      let largest = max(actual[index].magnitude, base[index].magnitude, given[index].magnitude)
      for (place, grid) in grids.enumerated()
      where distance.magnitude > Self.units * grid.unit(at: largest) {
        outliers[place] += 1
      }
      product += delta[index] * (given[index] - base[index])
    }
  }

  /// The mistakes that are tried for a merge, of which those with the same factor share an entry.
  static func possible(in step: TensorStep) -> [Self] {
    var all = [
      Self(factor: 1, accident: .lowPrecision, reason: ""),
      Self(factor: 0, accident: .notApplied, reason: "none of the delta is there"),
      Self(factor: 2, accident: .mergedTwice, reason: "the delta is there twice"),
      Self(
        factor: -1, accident: .subtracted, reason: "the delta was taken out of the base"),
    ]
    func add(_ factor: Double, _ what: String) {
      guard factor.isFinite else { return }
      if let same = all.firstIndex(where: { ($0.factor - factor).magnitude < 1e-6 }) {
        if all[same].factor != 1 { all[same].reason += ", or \(what)" }
        return
      }
      all.append(
        Self(
          factor: factor, accident: .wrongScale, reason: "factor \(text(of: factor)): \(what)"))
    }
    let (scales, ranks) = (
      Set(step.updates.map(\.scale)), Set(step.updates.map(\.update.rank))
    )
    if scales.count == 1, ranks.count == 1, let scale = scales.first, scale != 0,
      let rank = ranks.first?.map(Double.init), rank > 1
    {
      add(rank.squareRoot(), "alpha / sqrt(r) instead of alpha / r")
      add(1 / rank.squareRoot(), "alpha / r instead of alpha / sqrt(r)")
      add(rank, "alpha instead of alpha / r")
      add(1 / scale, "the scale was left out: 1 instead of \(text(of: scale))")
      add(1 / (scale * rank), "alpha was left out: 1 / r instead of \(text(of: scale))")
    }
    let weights = Set(step.updates.map(\.weight))
    if weights.count == 1, let weight = weights.first, weight != 1, weight != 0 {
      add(1 / weight, "the weight was left out: 1 instead of \(text(of: weight))")
    }
    add(0.5, "the delta is halved")
    return all
  }

  /// What a factor that no known mistake gives says.
  static func reason(of factor: Double) -> String {
    "factor \(text(of: factor)) of the expected delta"
  }

  /// A factor in a message.
  static func text(of value: Double) -> String {
    "\((value * 1000).rounded() / 1000)"
  }
}
