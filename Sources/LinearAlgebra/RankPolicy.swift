/// A rule that reads the rank of a low-rank update off a spectrum.
public enum RankPolicy: Sendable, Hashable {
  /// This rank.
  case fixed(Int)
  /// The least rank that captures this fraction of the energy.
  case energy(Double)
  /// The least rank whose residual, relative to the norm of the matrix, is at most this.
  case maximumError(Double)
  /// The values above the floor that noise on every element puts under a spectrum.
  ///
  /// The noise is estimated from the median of all singular values (Gavish & Donoho 2014, doi:10.1109/TIT.2014.2323359), and
  /// is at least what the spectrum says is known of it.
  case noiseFloor
  /// kohya's `sv_ratio`: the values above the largest divided by this.
  case svRatio(Double)
  /// kohya's `sv_fro`: the least rank whose share of the Frobenius norm is this; the square root of an energy.
  case svFro(Double)
  /// kohya's `sv_cumulative`: the least rank whose values sum up to this share of the sum of all.
  case svCumulative(Double)

  /// The search target that gives a spectrum long enough for this rule, or `nil` where none does in advance.
  ///
  /// - Parameter bounds: The least and the largest rank.
  /// - Returns: The target for ``leadingSubspace(of:target:options:)``.
  public func searchTarget(within bounds: ClosedRange<Int>) -> SubspaceTarget? {
    switch self {
    case .fixed(let rank): .rank(clamp(rank, bounds))
    case .energy(let fraction):
      .residual(
        atMost: 1 - fraction, minimumRank: bounds.lowerBound, maximumRank: bounds.upperBound)
    case .svFro(let share):
      .residual(
        atMost: 1 - share * share, minimumRank: bounds.lowerBound, maximumRank: bounds.upperBound)
    case .maximumError(let error):
      .residual(
        atMost: error * error, minimumRank: bounds.lowerBound, maximumRank: bounds.upperBound)
    case .noiseFloor, .svRatio, .svCumulative: nil
    }
  }

  /// The rank that the rule chooses.
  ///
  /// - Parameters:
  ///   - spectrum: The spectrum.
  ///   - bounds: The least and the largest rank; the matrix itself bounds both.
  /// - Returns: The rank, or `nil` where the rule needs more singular values than are known.
  public func rank(for spectrum: Spectrum, within bounds: ClosedRange<Int> = 0...Int.max) -> Int? {
    let full = min(spectrum.rows, spectrum.columns)
    let limit = min(bounds.upperBound, full)
    let lower = min(bounds.lowerBound, full)
    guard let rank = leastRank(spectrum, limit: limit) else { return nil }
    return min(max(rank, lower), limit)
  }

  private func leastRank(_ spectrum: Spectrum, limit: Int) -> Int? {
    let values = spectrum.values
    switch self {
    case .fixed(let rank): return rank
    case .energy(let fraction): return reach(fraction, spectrum, limit)
    case .svFro(let share): return reach(share * share, spectrum, limit)
    case .maximumError(let error):
      for rank in 0...min(values.count, limit) where spectrum.relativeError(rank: rank) <= error {
        return rank
      }
      return values.count >= limit ? limit : nil
    case .svRatio(let ratio):
      guard let first = values.first else { return spectrum.isComplete ? 0 : nil }
      return count(above: first / ratio, spectrum, limit)
    case .noiseFloor:
      guard spectrum.isComplete else { return nil }
      guard !values.isEmpty else { return 0 }
      let middle = (values[(values.count - 1) / 2] + values[values.count / 2]) / 2
      let known =
        spectrum.elementNoise * NoiseFloor.coefficient(aspect: spectrum.aspect)
        * Double(max(spectrum.rows, spectrum.columns)).squareRoot()
      return count(
        above: max(known, NoiseFloor.medianFactor(aspect: spectrum.aspect) * middle), spectrum,
        limit)
    case .svCumulative(let share):
      guard spectrum.isComplete else { return nil }
      let total = values.reduce(0, +)
      var sum = 0.0
      for (index, value) in values.enumerated() {
        if sum >= share * total { return index }
        sum += value
      }
      return values.count
    }
  }

  /// The least rank with at least this fraction of the energy.
  private func reach(_ fraction: Double, _ spectrum: Spectrum, _ limit: Int) -> Int? {
    var sum = 0.0
    for (index, value) in spectrum.values.enumerated() {
      if sum >= fraction * spectrum.totalEnergy { return index }
      sum += value * value
    }
    let reached = sum >= fraction * spectrum.totalEnergy
    return reached || spectrum.isComplete || spectrum.values.count >= limit
      ? spectrum.values.count : nil
  }

  private func count(above threshold: Double, _ spectrum: Spectrum, _ limit: Int) -> Int? {
    let count = spectrum.values.prefix { $0 > threshold }.count
    // Where every known value is above, an unknown one may be too.
    if count == spectrum.values.count, !spectrum.isComplete, count < limit { return nil }
    return count
  }

  private func clamp(_ rank: Int, _ bounds: ClosedRange<Int>) -> Int {
    min(max(rank, bounds.lowerBound), bounds.upperBound)
  }
}

extension Spectrum {
  /// The shorter side over the longer, in (0, 1].
  fileprivate var aspect: Double {
    max(rows, columns) == 0 ? 1 : Double(min(rows, columns)) / Double(max(rows, columns))
  }
}
