import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Why a tensor is not what merging gives.
///
/// With the base *B*, the expected delta *D* and the tensor *M*: the factor of each known mistake is tried by rounding
/// *B + f D* as a merge would and measuring how far *M* is from it. Where none explains *M*, least squares give the factor with
/// which *D* is in *M - B*, and what is left then tells a wrong scale from another base.
struct Diagnosis: Sendable {
  /// A mistake that multiplies the delta.
  private struct Candidate: Sendable {
    var factor: Double
    var accident: TensorVerification.Accident
    var reason: String
    /// The squared distance of *M* from what this mistake gives.
    var squaredDistance = 0.0
  }

  private var candidates: [Candidate]
  private var squaredDelta = 0.0
  private var squaredChange = 0.0
  private var product = 0.0
  private var transposedProduct: Double?
  /// The sum of the squares of the rounding steps of *M*, divided by 12: what rounding once adds.
  private var squaredRounding = 0.0

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
    let isSquare = rows == columns && columns * columns <= Self.maximumTransposed
    let capacity = step.geometry.rowsPerBlock * columns
    var reader = try ElementReader<Double>(merged, capacity: capacity)
    var buffers = BlockBuffers<Double>()
    var (changes, deltas): ([Double], [Double]) = ([], [])
    var found = self
    let rounding = MistakeRounding(merged.info.dtype)
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
        expected[index] -= base[index]
        let (delta, change) = (expected[index], actual[index] - base[index])
        found.squaredDelta += delta * delta
        found.squaredChange += change * change
        found.product += delta * change
        let unit = rounding.unit(at: actual[index])
        found.squaredRounding += unit * unit / 12
        if isSquare {
          deltas.append(delta)
          changes.append(change)
        }
      }
      for index in found.candidates.indices {
        found.candidates[index].squaredDistance += rounding.squaredDistance(
          of: actual, from: base, expected, times: found.candidates[index].factor)
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

  /// What most likely happened.
  var accident: (TensorVerification.Accident, String?) {
    if squaredChange == 0 { return (.notApplied, "the tensor is the base's") }
    guard let factor else { return (.otherBase, "the adapter's delta is zero here") }
    let norms = (squaredDelta * squaredChange).squareRoot()
    if let transposedProduct, transposedProduct / norms > 0.9, product / norms < 0.9 {
      return (.transposed, "the transpose of the delta was added")
    }
    // A mistake explains the tensor where what it leaves is like rounding once or twice more, and little beside the delta.
    let bound = min(4 * squaredRounding, 0.04 * max(squaredDelta, squaredChange))
    if let best = candidates.min(by: { $0.squaredDistance < $1.squaredDistance }),
      best.squaredDistance <= bound
    {
      return (best.accident, best.reason)
    }
    let left = max(0, squaredChange - factor * factor * squaredDelta)
    if left <= max(16 * squaredRounding, 0.01 * squaredDelta) {
      return (.wrongScale, "factor \(Self.significant(factor)) of the expected delta")
    }
    let share = Int(((left / squaredDelta).squareRoot() * 100).rounded())
    return (.otherBase, "tensor and base differ beyond the delta, by \(share) % of its norm")
  }

  /// The mistakes that are tried; of those with the same factor the first is named.
  private static func candidates(for step: TensorStep) -> [Candidate] {
    var all = [
      Candidate(
        factor: 1, accident: .lowPrecision, reason: "the delta is right, but rounded more than once"
      ),
      Candidate(factor: 0, accident: .notApplied, reason: "none of the delta is there"),
      Candidate(factor: 2, accident: .mergedTwice, reason: "the delta is there twice"),
      Candidate(
        factor: -1, accident: .subtracted, reason: "the delta was taken out of the base"),
    ]
    func add(_ factor: Double, _ what: String) {
      guard factor.isFinite, !all.contains(where: { ($0.factor - factor).magnitude < 1e-6 }) else {
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

/// Rounds what a mistake would give as a merge does.
private struct MistakeRounding: Sendable {
  private let dtype: DType
  private let fraction: Double

  init(_ dtype: DType) {
    self.dtype = dtype
    switch dtype {
    case .bf16: fraction = 0x1p-7
    case .f16: fraction = 0x1p-10
    case .f32: fraction = 0x1p-23
    case .f8e4m3: fraction = 0x1p-3
    case .f8e5m2: fraction = 0x1p-2
    default: fraction = 0x1p-52
    }
  }

  /// A unit in the last place.
  func unit(at value: Double) -> Double {
    value == 0 || !value.isFinite ? 0 : value.magnitude.binade * fraction
  }

  /// How far elements are from base plus factor times delta, rounded once.
  func squaredDistance(
    of actual: [Double], from base: [Double], _ delta: [Double], times factor: Double
  ) -> Double {
    var values = base
    for index in values.indices { values[index] += factor * delta[index] }
    var bytes = [UInt8](repeating: 0, count: dtype.byteCount(ofElements: values.count) ?? 0)
    var byteSpan = bytes.mutableSpan
    var raw = unsafe byteSpan.mutableBytes
    _ = Double.narrow(values.span, to: dtype, into: &raw)
    var span = values.mutableSpan
    unsafe Double.widen(bytes.span.bytes, from: dtype, into: &span)
    var sum = 0.0
    for index in actual.indices {
      let distance = actual[index] - values[index]
      sum += distance * distance
    }
    return sum
  }
}
