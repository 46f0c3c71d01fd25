import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Puts the changes of one tensor together.
struct Combination: Sendable {
  let method: CombineRequest.Method
  let arithmetic: TaskArithmetic
  let spool: FactorSpool

  /// The combined module; none where its rank is 0.
  func combine(
    _ step: CombineStep, _ rule: RankRule
  ) throws(SurgeryError) -> (module: ModuleUpdate?, report: TensorReport) {
    var report = TensorReport(
      step.first.tensorName, step.isDifference ? .full : .lowRank, shape: step.first.shape,
      reason: step.parts.count == 1 ? nil : "of \(step.parts.count, counting: "adapter")")
    if let difference = step.first.update as? FullDifference {
      var module = step.first
      module.update = try combined(difference, step)
      (module.scale, module.alpha, module.extraction) = (1, nil, nil)
      return (module, report)
    }
    guard let pair = try pair(step, rule, &report) else {
      report.action = .skipped
      report.reason = "rank 0"
      return (nil, report)
    }
    report.rank = pair.rank
    return (try step.first.replacing(pair, scale: 1), report)
  }

  /// The spectrum of what is factored anew, for a budget.
  func item(_ step: CombineStep) throws(SurgeryError) -> RankAllocation.Item {
    // What is kept as a difference takes nothing of the budget.
    var spectrum = Spectrum(values: [], rows: 0, columns: 0)
    if !step.isDifference, method == .svd {
      spectrum = try sums(try factors(step), step).decomposed().spectrum
    } else if !step.isDifference {
      var delta = try delta(step)
      spectrum = try DeltaFactoring.spectrum(of: &delta)
    }
    return RankAllocation.Item(
      spectrum: spectrum, rule: step.rule, dtype: spool.storageDType(like: step.dtype),
      defaultRank: step.defaultRank)
  }

  /// The factors of each part, one pair for each matrix of a stack.
  private func factors(_ step: CombineStep) throws(SurgeryError) -> [[Factors<Double>]] {
    var factors: [[Factors<Double>]] = []
    for part in step.parts {
      guard let own = try part.module.update.products(as: Double.self) else {
        throw SurgeryError(.bug, "bug.combine", "no factors to combine")
      }
      factors.append(own)
    }
    return factors
  }

  /// The weighted sum of the parts, exactly: for each matrix factors whose ranks add up.
  private func sums(
    _ factors: [[Factors<Double>]], _ step: CombineStep
  ) -> [Factors<Double>] {
    (factors.first ?? []).indices.compactMap { matrix in
      Factors.sum(of: zip(factors, step.parts).map { $0[matrix].scaled(by: $1.weightedScale) })
    }
  }

  /// The changes of a matrix put together; the scales take part in the election, the weights do not.
  private func delta(_ step: CombineStep) throws(SurgeryError) -> Matrix<Double> {
    arithmetic.combined(
      zip(try factors(step), step.parts).map { $0[0].scaled(by: $1.scale).delta() },
      weights: step.parts.map(\.weight), name: step.first.tensorName.text)
  }

  private func pair(
    _ step: CombineStep, _ rule: RankRule, _ report: inout TensorReport
  ) throws(SurgeryError) -> FactorSpool.Pair? {
    let factors = try factors(step)
    switch method {
    case .concat, .svd:
      let sums = sums(factors, step)
      var result = sums
      if method == .svd {
        let decompositions = try sums.decomposed()
        let rank = rule.rank(for: decompositions.spectrum, orElse: step.defaultRank)
        result = zip(decompositions, sums).map {
          $0.factors(rank: min(rank, $1.up.rows, $1.down.columns))
        }
      }
      return (result.first?.rank ?? 0) == 0 ? nil : try stored(result, sums, step, &report)
    case .linear:
      return try stored(onFactors(factors, step), sums(factors, step), step, &report)
    case .ties, .dareLinear, .dareTies, .magnitudePrune:
      return try spool.store(onFactors(factors, step), like: step.dtype)
    case .tiesSVD, .dareLinearSVD, .dareTiesSVD, .magnitudePruneSVD:
      return try factored(step, rule, &report)
    }
  }

  /// Stores pairs, with what they lack of the exact sums.
  private func stored(
    _ result: [Factors<Double>], _ sums: [Factors<Double>], _ step: CombineStep,
    _ report: inout TensorReport
  ) throws(SurgeryError) -> FactorSpool.Pair {
    let pair = try spool.store(result, like: step.dtype)
    report.setEnergies(
      squaredNorm: try sums.squaredNorm(),
      squaredResidual: try sums.squaredResidual(of: pair.rounded))
    return pair
  }

  /// Both factors put together by themselves, those of a stack as one tensor each, as PEFT has them; of a negative weight the
  /// sign goes to `down` alone.
  private func onFactors(
    _ factors: [[Factors<Double>]], _ step: CombineStep
  ) -> [Factors<Double>] {
    let weights = step.parts.map(\.weightedScale)
    let roots = weights.map { $0.magnitude.squareRoot() }
    let name = step.first.tensorName.text
    let up = arithmetic.combined(
      factors.map { Matrix(stacking: $0.map(\.up)) }, weights: roots, name: "\(name)/up")
    let down = arithmetic.combined(
      factors.map { Matrix(stacking: $0.map(\.down)) },
      weights: zip(roots, weights).map { $1 < 0 ? -$0 : $0 }, name: "\(name)/down")
    let count = factors.first?.count ?? 1
    return zip(up.parted(into: count), down.parted(into: count)).map { Factors(up: $0, down: $1) }
  }

  /// The changes themselves put together and factored.
  private func factored(
    _ step: CombineStep, _ rule: RankRule, _ report: inout TensorReport
  ) throws(SurgeryError) -> FactorSpool.Pair? {
    var delta = try delta(step)
    let found = try DeltaFactoring(spool: spool, defaultRank: step.defaultRank)
      .factor(&delta, rule: rule, like: step.dtype)
    guard let found else { return nil }
    report.setEnergies(squaredNorm: found.squaredNorm, squaredResidual: found.squaredResidual)
    return found.pair
  }

  private func combined(
    _ first: FullDifference, _ step: CombineStep
  ) throws(SurgeryError) -> FullDifference {
    var matrices: [Matrix<Double>] = []
    for part in step.parts {
      guard let own = part.module.update as? FullDifference else { continue }
      matrices.append(try own.difference.matrix(of: Double.self))
    }
    let sum = arithmetic.combined(
      matrices, weights: step.parts.map(\.weightedScale), name: step.first.tensorName.text)
    let stored = try spool.store(
      sum, as: spool.storageDType(like: step.dtype), shape: first.difference.tensor.info.shape)
    return try FullDifference(
      Factor(stored.tensor).reshaped(rows: sum.rows, columns: sum.columns))
  }
}
