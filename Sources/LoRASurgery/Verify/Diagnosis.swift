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
  /// Mistakes that multiply the delta by the same factor.
  private struct Candidate: Sendable {
    var factor: Double
    var accident: TensorVerification.Accident
    var reason: String
    /// The squared distance of *M* from what this mistake gives.
    var squaredDistance = 0.0
    /// The product of *D* with what this mistake changes.
    var product = 0.0
  }

  private var candidates: [Candidate]
  private var count = 0
  private var squaredDelta = 0.0
  private var squaredChange = 0.0
  private var largestDelta = 0.0
  private var product = 0.0
  private var transposedProduct: Double?
  /// How far *M* is beyond a unit in the last place from the sum that is not rounded, at most.
  private var largestExcess = 0.0
  /// The dtypes that *M* may have been rounded to, its own first.
  private var grids: [Grid]
  /// How many numbers are summed for an element of the delta.
  private var summands = 0

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
    candidates = Self.candidates(for: step)
    let (rows, columns) = (step.geometry.rows, step.geometry.columns)
    summands = step.updates.reduce(0) { $0 + ($1.update.rank ?? min(rows, columns)) }
    let dtype = merged.info.dtype
    let own = Grid(dtype)
    grids = [own] + [.bf16, .f16, .f32].map { Grid($0) }.filter { $0.isCoarser(than: own) }
    // Each step of an update that is no sum rounds once more.
    let roundings = step.isAdditive ? 1.0 : 4
    let isSquare = rows == columns && columns * columns <= Self.maximumTransposed
    let capacity = step.geometry.rowsPerBlock * columns
    var reader = try ElementReader<Double>(merged, capacity: capacity)
    var buffers = BlockBuffers<Double>()
    var (changes, deltas): ([Double], [Double]) = ([], [])
    var found = self
    let rounding = MistakeRounding(dtype)
    _ = try BlockRewriting<Double>(exact, Arithmetic(precision: .float64)).run(
      blocks: 0..<step.geometry.count, buffers: &buffers, interruption: execution.interruption
    ) { (rows, input, output) throws(SurgeryError) in
      let count = rows.count * columns
      var base = [Double](repeating: 0, count: count)
      var (expected, actual) = (base, base)
      Self.widen(input, step.source.info.dtype, into: &base)
      Self.widen(output, .f64, into: &expected)
      var span = actual.mutableSpan
      try reader.read(from: rows.lowerBound * columns, into: &span)
      for index in 0..<count {
        let distance = (actual[index] - expected[index]).magnitude
        found.largestExcess = max(
          found.largestExcess, distance - roundings * found.grids[0].unit(at: actual[index]))
        expected[index] -= base[index]
        let (delta, change) = (expected[index], actual[index] - base[index])
        found.largestDelta = max(found.largestDelta, delta.magnitude)
        found.squaredDelta += delta * delta
        found.squaredChange += change * change
        found.product += delta * change
        for grid in found.grids.indices { found.grids[grid].add(actual[index]) }
        if isSquare {
          deltas.append(delta)
          changes.append(change)
        }
      }
      found.count += count
      for index in found.candidates.indices {
        let sums = rounding.sums(
          of: actual, from: base, expected, times: found.candidates[index].factor)
        found.candidates[index].squaredDistance += sums.squaredDistance
        found.candidates[index].product += sums.product
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

  private static func widen(_ bytes: [UInt8], _ dtype: DType, into values: inout [Double]) {
    var span = values.mutableSpan
    unsafe Double.widen(bytes.span.bytes, from: dtype, into: &span)
  }

  /// How much of the expected delta is there.
  var factor: Double? { squaredDelta > 0 ? product / squaredDelta : nil }

  /// Whether a merge in single precision that sums in another order may give the tensor.
  ///
  /// The error of a sum of *n* products is taken for at most 1 + sqrt(*n*) half units of the largest delta, as it is for BLAS
  /// and loops in any order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2, on rounding errors as
  /// random); where base and delta cancel, that is many units of what is left.
  var isRoundingOfSums: Bool {
    guard grids[0].dtype != .f64 else { return false }
    return largestExcess <= 0x1p-24 * (1 + Double(summands).squareRoot()) * largestDelta
  }

  /// What most likely happened.
  var accident: (TensorVerification.Accident, String?) {
    if squaredChange == 0 { return (.notApplied, "the tensor is the base's") }
    guard let factor else { return (.otherBase, "the adapter's delta is zero here") }
    let norms = (squaredDelta * squaredChange).squareRoot()
    if let transposedProduct, transposedProduct / norms > 0.9, product / norms < 0.9 {
      return (.transposed, "the transpose of the delta was added")
    }
    let explaining = candidates.filter(explains)
    if let best = explaining.min(by: { $0.squaredDistance < $1.squaredDistance }) {
      return (best.accident, best.factor == 1 ? lowPrecisionReason : best.reason)
    }
    let left = max(0, squaredChange - factor * factor * squaredDelta)
    if left <= max(16 * squaredRounding, 0.01 * squaredDelta),
      (factor - 1).magnitude > uncertainty(leaving: left, of: factor)
    {
      return (.wrongScale, "factor \(Self.significant(factor)) of the expected delta")
    }
    let share = Int(((left / squaredDelta).squareRoot() * 100).rounded())
    return (.otherBase, "tensor and base differ beyond the delta, by \(share) % of its norm")
  }

  /// The sum of the squares of the rounding steps of *M*, divided by 12: what rounding once adds, in the coarsest dtype that
  /// holds all of *M*.
  private var squaredRounding: Double { (coarser ?? grids[0]).squaredRounding }

  /// What *M* was rounded to before it was stored in its own dtype.
  private var coarser: Grid? { grids.dropFirst().first(where: \.holdsAll) }

  private var lowPrecisionReason: String {
    if let coarser {
      return "the delta is right, but all was rounded to \(coarser.dtype) on the way"
    }
    return "the delta is right, but rounded more than once, or computed in low precision"
  }

  /// Whether a mistake explains the tensor.
  private func explains(_ candidate: Candidate) -> Bool {
    // What it leaves is like rounding a few times more, or little beside the delta: less than a tenth; and where the delta is
    // right, less than a hundredth, which factors and product in bfloat16 keep to.
    let share = candidate.factor == 1 ? 0.01 : 0.1
    let size = max(1, candidate.factor * candidate.factor) * squaredDelta
    guard candidate.squaredDistance <= max(16 * squaredRounding, share * share * size) else {
      return false
    }
    // What it leaves is not more of the delta.
    let shift = (product - candidate.product).magnitude / squaredDelta
    return shift <= uncertainty(leaving: candidate.squaredDistance, of: candidate.factor)
  }

  /// How far from a factor that of least squares may be: four standard deviations, or what rounding a scale to bfloat16 does.
  private func uncertainty(leaving squaredDistance: Double, of factor: Double) -> Double {
    let deviation = (squaredDistance / (Double(count) * squaredDelta)).squareRoot()
    return max(4 * deviation, 0x1p-9 * max(1, factor.magnitude))
  }

  /// The mistakes that are tried, of which those with the same factor share an entry.
  private static func candidates(for step: TensorStep) -> [Candidate] {
    var all = [
      Candidate(factor: 1, accident: .lowPrecision, reason: ""),
      Candidate(factor: 0, accident: .notApplied, reason: "none of the delta is there"),
      Candidate(factor: 2, accident: .mergedTwice, reason: "the delta is there twice"),
      Candidate(
        factor: -1, accident: .subtracted, reason: "the delta was taken out of the base"),
    ]
    func add(_ factor: Double, _ what: String) {
      guard factor.isFinite else { return }
      if let same = all.firstIndex(where: { ($0.factor - factor).magnitude < 1e-6 }) {
        if all[same].factor != 1 { all[same].reason += ", or \(what)" }
        return
      }
      all.append(
        Candidate(
          factor: factor, accident: .wrongScale, reason: "factor \(significant(factor)): \(what)"))
    }
    if step.updates.count == 1, let update = step.updates.first,
      let rank = update.update.rank.map(Double.init), rank > 1, update.scale != 0
    {
      let scale = update.scale
      add(rank.squareRoot(), "alpha / sqrt(r) instead of alpha / r")
      add(1 / rank.squareRoot(), "alpha / r instead of alpha / sqrt(r)")
      add(rank, "alpha instead of alpha / r")
      add(1 / scale, "the scale was left out: 1 instead of \(significant(scale))")
      add(1 / (scale * rank), "alpha was left out: 1 / r instead of \(significant(scale))")
    }
    add(0.5, "the delta is halved")
    return all
  }

  private static func significant(_ value: Double) -> String {
    "\((value * 1000).rounded() / 1000)"
  }
}

/// The values that a dtype has, as far as a tensor shows them.
private struct Grid: Sendable {
  let dtype: DType
  private let fraction: Double
  private let least: Double
  /// The sum of the squares of the steps at the values, divided by 12.
  private(set) var squaredRounding = 0.0
  /// Whether every value is one of the dtype's.
  private(set) var holdsAll = true

  init(_ dtype: DType) {
    self.dtype = dtype
    (fraction, least) =
      switch dtype {
      case .bf16: (0x1p-7, 0x1p-133)
      case .f16: (0x1p-10, 0x1p-24)
      case .f32: (0x1p-23, 0x1p-149)
      case .f8e4m3: (0x1p-3, 0x1p-9)
      case .f8e5m2: (0x1p-2, 0x1p-16)
      default: (0x1p-52, 0x1p-1074)
      }
  }

  func isCoarser(than other: Grid) -> Bool { fraction > other.fraction }

  /// A unit in the last place.
  func unit(at value: Double) -> Double {
    value == 0 || !value.isFinite ? 0 : max(value.magnitude.binade * fraction, least)
  }

  mutating func add(_ value: Double) {
    let unit = unit(at: value)
    squaredRounding += unit * unit / 12
    if holdsAll, unit > 0 { holdsAll = value.truncatingRemainder(dividingBy: unit) == 0 }
  }
}

/// Rounds what a mistake would give as a merge does.
private struct MistakeRounding: Sendable {
  private let dtype: DType

  init(_ dtype: DType) { self.dtype = dtype }

  /// How far elements are from base plus factor times delta, rounded once, and the product of the delta with what that changes.
  func sums(
    of actual: [Double], from base: [Double], _ delta: [Double], times factor: Double
  ) -> (squaredDistance: Double, product: Double) {
    var values = base
    for index in values.indices { values[index] += factor * delta[index] }
    var bytes = [UInt8](repeating: 0, count: dtype.byteCount(ofElements: values.count) ?? 0)
    var byteSpan = bytes.mutableSpan
    var raw = unsafe byteSpan.mutableBytes
    _ = Double.narrow(values.span, to: dtype, into: &raw)
    var span = values.mutableSpan
    unsafe Double.widen(bytes.span.bytes, from: dtype, into: &span)
    var (squaredDistance, product) = (0.0, 0.0)
    for index in actual.indices {
      let distance = actual[index] - values[index]
      squaredDistance += distance * distance
      product += delta[index] * (values[index] - base[index])
    }
    return (squaredDistance, product)
  }
}
