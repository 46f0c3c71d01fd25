import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Why a tensor is not what merging gives.
///
/// With the base *B*, the expected delta *D* and the tensor *M*: the factor *f* of each known mistake is tried by rounding
/// *B + f D* as a merge would. It explains *M* where little of *M* is left beside that, and where least squares find as much
/// of *D* in *M - B* as in what the mistake gives, to their own uncertainty. Where none explains *M*, least squares give the
/// factor, and what is left then tells a wrong scale from another base.
struct Diagnosis: Sendable {
  private var mistakes: [ScaleMistake]
  private var count = 0
  private var squaredDelta = 0.0
  private var squaredChange = 0.0
  private var largestDelta = 0.0
  private var product = 0.0
  private var transposedProduct: Double?
  /// How far *M* is beyond a unit in the last place from the sum that is not rounded, at most.
  private var largestExcess = 0.0
  /// The dtypes that *M* may have been rounded to, its own first.
  private var grids: [ValueGrid]
  /// How many numbers are summed for an element of the delta.
  private var summands = 0
  /// How much of each adapter's delta is there; `nil` where one alone adds to the tensor.
  private var shares: AdapterShares?

  /// The most elements of a tensor that is held in memory to look for a transposed delta.
  private static let maximumTransposed = 1 << 26

  /// Streams base, expected and stored tensor in double precision.
  ///
  /// - Parameters:
  ///   - step: The merge that was expected.
  ///   - merged: The tensor that is there.
  ///   - execution: The token that stops the work.
  /// - Throws: What reading throws.
  init(
    _ step: TensorStep, _ merged: StoredTensor, _ execution: Execution
  ) throws(SurgeryError) {
    var exact = step
    exact.dtype = .f64
    shares = try AdapterShares(step, merged, execution)
    mistakes = ScaleMistake.possible(in: step)
    let (rows, columns) = (step.geometry.rows, step.geometry.columns)
    summands = step.updates.reduce(0) { $0 + ($1.update.rank ?? min(rows, columns)) }
    let dtype = merged.info.dtype
    let own = ValueGrid(dtype)
    grids = [own] + [.bf16, .f16, .f32].map { ValueGrid($0) }.filter { $0.isCoarser(than: own) }
    // Each step of an update that is no sum rounds once more.
    let roundings = step.isAdditive ? 1.0 : 4
    let isSquare = rows == columns && columns * columns <= Self.maximumTransposed
    let capacity = step.geometry.rowsPerBlock * columns
    var reader = try ElementReader<Double>(merged, capacity: capacity)
    var buffers = BlockBuffers<Double>()
    var (changes, deltas): ([Double], [Double]) = ([], [])
    var found = self
    _ = try BlockRewriting<Double>(exact, Arithmetic(precision: .float64)).run(
      blocks: 0..<step.geometry.count, buffers: &buffers, interruption: execution.interruption
    ) { (rows, input, output) throws(SurgeryError) in
      let count = rows.count * columns
      let base = [Double](widening: input, from: step.source.info.dtype)
      let expected = [Double](widening: output, from: .f64)
      var (actual, delta) = (base, base)
      var span = actual.mutableSpan
      try reader.read(from: rows.lowerBound * columns, into: &span)
      for index in 0..<count {
        let distance = (actual[index] - expected[index]).magnitude
        found.largestExcess = max(
          found.largestExcess, distance - roundings * found.grids[0].unit(at: actual[index]))
        delta[index] = expected[index] - base[index]
        let change = actual[index] - base[index]
        found.largestDelta = max(found.largestDelta, delta[index].magnitude)
        found.squaredDelta += delta[index] * delta[index]
        found.squaredChange += change * change
        found.product += delta[index] * change
        for grid in found.grids.indices { found.grids[grid].add(actual[index]) }
        if isSquare {
          deltas.append(delta[index])
          changes.append(change)
        }
      }
      found.count += count
      for index in found.mistakes.indices {
        found.mistakes[index].compare(
          actual, base: base, delta: delta, storedAs: dtype, on: found.grids)
      }
    }
    self = found
    if isSquare {
      var sum = 0.0
      for row in 0..<columns {
        for column in 0..<columns {
          sum += deltas[column * columns + row] * changes[row * columns + column]
        }
      }
      transposedProduct = sum
    }
  }

  /// How much of the expected delta is there.
  var factor: Double? { squaredDelta > 0 ? product / squaredDelta : nil }

  /// Whether a merge in single precision, or in double where it stores that, that sums in another order may give the tensor.
  ///
  /// The error of a sum of *n* products is taken for at most 1 + sqrt(*n*) half units of the largest delta, as it is for BLAS
  /// and loops in any order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2, on rounding errors as
  /// random); where base and delta cancel, that is many units of what is left.
  var isRoundingOfSums: Bool {
    // In double precision the expected tensor has as much of it.
    let roundoff = grids[0].dtype == .f64 ? 2 * 0x1p-53 : 0x1p-24
    return largestExcess <= roundoff * (1 + Double(summands).squareRoot()) * largestDelta
  }

  /// What most likely happened.
  var accident: (TensorVerification.Accident, String?) {
    if squaredChange == 0 { return (.notApplied, "the tensor is the base's") }
    guard let factor else { return (.otherBase, "the adapter's delta is zero here") }
    let norms = (squaredDelta * squaredChange).squareRoot()
    if let transposedProduct, transposedProduct / norms > 0.9, product / norms < 0.9 {
      return (.transposed, "the transpose of the delta was added")
    }
    let explaining = mistakes.filter(explains)
    if let best = explaining.min(by: { $0.squaredDistance < $1.squaredDistance }) {
      return (best.accident, best.factor == 1 ? lowPrecisionReason : best.reason)
    }
    let left = max(0, squaredChange - factor * factor * squaredDelta)
    let tolerable = max(16 * squaredRounding, 0.01 * squaredDelta)
    if let shares, shares.squaredRest <= tolerable, !shares.agree(on: factor),
      let accident = shares.accident
    {
      return accident
    }
    if left <= tolerable, (factor - 1).magnitude > uncertainty(leaving: left, of: factor) {
      return (.wrongScale, ScaleMistake.reason(of: factor))
    }
    let share = Int(((left / squaredDelta).squareRoot() * 100).rounded())
    return (
      .otherBase, "differs beyond the delta, by \(share) % of its norm: another base or adapter"
    )
  }

  /// The sum of the squares of the rounding steps of *M*, divided by 12: what rounding once adds, in the coarsest dtype that
  /// holds all of *M*.
  private var squaredRounding: Double { grids[grid].squaredRounding }

  /// What *M* was rounded to before it was stored in its own dtype.
  private var coarser: ValueGrid? { grid > 0 ? grids[grid] : nil }

  /// The coarsest of the grids that holds all of *M*.
  private var grid: Int { grids.indices.dropFirst().first { grids[$0].holdsAll } ?? 0 }

  private var lowPrecisionReason: String {
    if let coarser {
      return "the delta is right, but all was rounded to \(coarser.dtype) on the way"
    }
    return "the delta is right, but rounded more than once, or computed in low precision"
  }

  /// Whether a mistake explains the tensor.
  private func explains(_ mistake: ScaleMistake) -> Bool {
    // Little beside the delta: less than a tenth; and where the delta is right, less than a hundredth, which factors and product
    // in bfloat16 keep to.
    let share = mistake.factor == 1 ? 0.01 : 0.1
    let size = max(1, mistake.factor * mistake.factor) * squaredDelta
    guard mistake.squaredDistance <= share * share * size || isRounding(mistake) else {
      return false
    }
    // What it leaves is not more of the delta.
    let shift = (product - mistake.product).magnitude / squaredDelta
    return shift <= uncertainty(leaving: mistake.squaredDistance, of: mistake.factor)
  }

  /// Whether what a mistake leaves is like rounding a few times more: in sum, and at nearly every element, since what another
  /// delta leaves is as large where values, and so their units, are small.
  private func isRounding(_ mistake: ScaleMistake) -> Bool {
    mistake.squaredDistance <= 16 * squaredRounding && mistake.outliers[grid] <= count / 100
  }

  private func uncertainty(leaving squaredDistance: Double, of factor: Double) -> Double {
    let deviation = (squaredDistance / (Double(count) * squaredDelta)).squareRoot()
    return Self.uncertainty(deviation: deviation, of: factor)
  }

  /// How far from a factor that of least squares may be: four standard deviations, or what rounding a scale to bfloat16 does.
  static func uncertainty(deviation: Double, of factor: Double) -> Double {
    max(4 * deviation, 0x1p-9 * max(1, factor.magnitude))
  }
}
