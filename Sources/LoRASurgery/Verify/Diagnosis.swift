import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Why a tensor is not what merging gives.
///
/// With the base *B*, the expected delta *D* and the tensor *M*, least squares give the factor *f* with which *D* is in *M - B*;
/// what is left of *M - B* then says whether a factor explains the difference.
struct Diagnosis: Sendable {
  private var squaredDelta = 0.0
  private var squaredChange = 0.0
  private var product = 0.0
  private var transposedProduct: Double?
  /// The sum of the squares of the rounding steps of *M*, divided by 12: what rounding once adds.
  private var squaredRounding = 0.0

  /// The most elements of a tensor that is held in memory to look for a transposed delta.
  private static let maximumTransposed = 1 << 26

  /// Streams base, expected and stored tensor in double precision.
  init(
    _ step: TensorStep, _ merged: StoredTensor, _ execution: Execution
  ) throws(SurgeryError) {
    var exact = step
    exact.dtype = .f64
    let columns = step.geometry.columns
    let isSquare = step.geometry.rows == columns && columns * columns <= Self.maximumTransposed
    var reader = try ElementReader<Double>(
      merged, capacity: step.geometry.rowsPerBlock * columns)
    var buffers = BlockBuffers<Double>()
    var (changes, deltas): ([Double], [Double]) = ([], [])
    var sums = (delta: 0.0, change: 0.0, product: 0.0, rounding: 0.0)
    let bits = Self.fractionBits(of: merged.info.dtype)
    _ = try BlockRewriting<Double>(exact, Arithmetic(precision: .float64)).run(
      blocks: 0..<step.geometry.count, buffers: &buffers, interruption: execution.interruption
    ) { (rows, input, output, _) throws(SurgeryError) in
      let count = rows.count * columns
      var (base, expected) = ([Double](repeating: 0, count: count), [Double](repeating: 0, count: count))
      var actual = expected
      Self.widen(input, step.source.info.dtype, into: &base)
      Self.widen(output, .f64, into: &expected)
      var span = actual.mutableSpan
      try reader.read(from: rows.lowerBound * columns, into: &span)
      for index in 0..<count {
        let (delta, change) = (expected[index] - base[index], actual[index] - base[index])
        sums.delta += delta * delta
        sums.change += change * change
        sums.product += delta * change
        let unit = actual[index] == 0 ? 0 : actual[index].magnitude.binade * bits
        sums.rounding += unit * unit / 12
        if isSquare {
          deltas.append(delta)
          changes.append(change)
        }
      }
    }
    squaredDelta = sums.delta
    squaredChange = sums.change
    product = sums.product
    squaredRounding = sums.rounding
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

  /// A unit in the last place of a number of binade 1.
  private static func fractionBits(of dtype: DType) -> Double {
    switch dtype {
    case .bf16: 0x1p-7
    case .f16: 0x1p-10
    case .f32: 0x1p-23
    case .f8e4m3: 0x1p-3
    case .f8e5m2: 0x1p-2
    default: 0x1p-52
    }
  }

  /// How much of the expected delta is there.
  var factor: Double? { squaredDelta > 0 ? product / squaredDelta : nil }

  /// What most likely happened.
  ///
  /// - Parameter step: The merge that was expected.
  /// - Returns: The accident and its explanation.
  func accident(of step: TensorStep) -> (TensorVerification.Accident, String?) {
    if squaredChange == 0 { return (.notApplied, "the tensor is the base's") }
    guard let factor, squaredDelta > 0 else { return (.otherBase, nil) }
    // Beyond rounding: a few steps of it, or a tenth of the delta.
    let left = max(0, squaredChange - factor * factor * squaredDelta)
    let isExplained = left <= max(16 * squaredRounding, 0.01 * squaredDelta)
    let norms = (squaredDelta * squaredChange).squareRoot()
    if let transposedProduct, transposedProduct / norms > 0.9, product / norms < 0.9 {
      return (.transposed, "the transpose of the delta was added")
    }
    guard isExplained else {
      return (
        .otherBase,
        "tensor and base differ by \(Self.percent((left / squaredDelta).squareRoot())) of the delta's norm beyond the delta"
      )
    }
    // How far rounding alone may move the factor.
    let slack = 0.01 + 4 * (squaredRounding / squaredDelta).squareRoot() / 100
    func isNear(_ value: Double) -> Bool {
      (factor - value).magnitude <= slack * max(1, value.magnitude)
    }
    if isNear(1) { return (.lowPrecision, "the delta is right, but rounded more than once") }
    if isNear(0) { return (.notApplied, "none of the delta is there") }
    if isNear(-1) { return (.subtracted, "the delta was taken out of the base instead of added") }
    for (value, what) in Self.knownFactors(of: step) where isNear(value) {
      return (.wrongScale, "factor \(Self.significant(factor)): \(what)")
    }
    if isNear(2) { return (.mergedTwice, "the delta is there twice") }
    return (.wrongScale, "factor \(Self.significant(factor)) of the expected delta")
  }

  /// Mistakes in the scale of a single low-rank update, and the factor that each gives.
  private static func knownFactors(of step: TensorStep) -> [(Double, String)] {
    guard step.updates.count == 1, let update = step.updates.first,
      let rank = update.update.rank.map(Double.init), rank > 1, update.scale != 0
    else { return [(0.5, "the delta is halved")] }
    let (root, scale) = (rank.squareRoot(), update.scale)
    var factors: [(Double, String)] = [
      (root, "alpha / sqrt(r) instead of alpha / r"),
      (1 / root, "alpha / r instead of alpha / sqrt(r)"),
      (rank, "alpha instead of alpha / r"),
    ]
    // A scale of 2 left out looks like a halved one: both readings are given.
    if scale != 1 { factors.append((1 / scale, "the scale was left out (1 instead of \(significant(scale)))")) }
    factors.append((1 / scale / rank, "alpha was left out (1 / r instead of \(significant(scale)))"))
    factors.append((0.5, "the delta is halved"))
    return factors.filter { $0.0 != 1 && $0.0 != 2 }
  }

  private static func significant(_ value: Double) -> String {
    "\((value * 1000).rounded() / 1000)"
  }

  private static func percent(_ value: Double) -> String { "\(Int((value * 100).rounded())) %" }
}
