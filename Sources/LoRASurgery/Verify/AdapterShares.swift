import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// How much of the delta of each adapter a tensor holds, where several add to it.
///
/// By least squares on all deltas at once: with the deltas *D* of the adapters and the change *C* of the base, the factors *f*
/// solve `<D, D'> f = <D, C>`.
struct AdapterShares: Sendable {
  /// What was found of one adapter.
  private struct Share: Sendable {
    /// Its position among the adapters of the request.
    var adapter: Int
    var mistakes: [ScaleMistake]
    var factor = 0.0
    /// How far the factor may be from the true one.
    var uncertainty = 0.0

    /// Whether a factor is the one found.
    func agrees(with other: Double) -> Bool { (factor - other).magnitude <= uncertainty }
  }

  private var shares: [Share]
  /// The sum of the squares of what all deltas together leave of the change.
  let squaredRest: Double

  /// Streams the tensor and the deltas in double precision; `nil` where fewer than two adapters change the tensor, or not by
  /// adding to it.
  ///
  /// - Parameters:
  ///   - step: The merge that was expected.
  ///   - merged: The tensor that is there.
  ///   - execution: The token that stops the work.
  /// - Throws: What reading throws.
  /// - Complexity: One pass over base and tensor for each adapter.
  init?(
    _ step: TensorStep, _ merged: StoredTensor, _ execution: Execution
  ) throws(SurgeryError) {
    let adapters = Set(step.updates.map(\.adapter)).sorted()
    guard adapters.count > 1, step.isAdditive else { return nil }
    let parts = adapters.map { adapter in
      var part = step
      part.updates.removeAll { $0.adapter != adapter }
      part.dtype = .f64
      return part
    }
    let rewritings = try parts.map { (part) throws(SurgeryError) in
      try BlockRewriting<Double>(part, Arithmetic(precision: .float64))
    }
    let columns = step.geometry.columns
    var reader = try ElementReader<Double>(
      merged, capacity: step.geometry.rowsPerBlock * columns)
    var buffers = BlockBuffers<Double>()
    var products = Matrix<Double>(rows: parts.count, columns: parts.count + 1)
    var (squaredChange, count) = (0.0, 0)
    for block in 0..<step.geometry.count {
      let rows = step.geometry.rows(of: block)
      // The deltas of the block, and last the change.
      var differences: [[Double]] = []
      var base: [Double] = []
      for rewriting in rewritings {
        _ = try rewriting.run(
          blocks: block..<block + 1, buffers: &buffers, interruption: execution.interruption
        ) { (_, input, output) throws(SurgeryError) in
          base = [Double](widening: input, from: step.source.info.dtype)
          differences.append(zip([Double](widening: output, from: .f64), base).map { $0 - $1 })
        }
      }
      var actual = base
      var span = actual.mutableSpan
      try reader.read(from: rows.lowerBound * columns, into: &span)
      differences.append(zip(actual, base).map { $0 - $1 })
      let all = Matrix(
        rows: differences.count, columns: base.count, elements: differences.flatMap { $0 })
      let sums = product(all, all, transposeSecond: true)
      for row in parts.indices {
        for column in 0...parts.count { products[row, column] += sums[row, column] }
      }
      squaredChange += sums[parts.count, parts.count]
      count += base.count
    }
    var inner = Matrix<Double>(rows: parts.count, columns: parts.count)
    for row in parts.indices {
      for column in parts.indices { inner[row, column] = products[row, column] }
    }
    let inverse = try pseudoInverse(inner)
    let factors = parts.indices.map { row in
      parts.indices.reduce(0) { $0 + inverse[row, $1] * products[$1, parts.count] }
    }
    let explained = parts.indices.reduce(0) { $0 + factors[$1] * products[$1, parts.count] }
    let rest = max(0, squaredChange - explained)
    squaredRest = rest
    shares = parts.indices.map { index in
      let deviation = (rest / Double(count) * inverse[index, index]).squareRoot()
      return Share(
        adapter: adapters[index], mistakes: ScaleMistake.possible(in: parts[index]),
        factor: factors[index],
        uncertainty: Diagnosis.uncertainty(deviation: deviation, of: factors[index]))
    }
  }

  /// Whether one factor on all deltas says the same.
  func agree(on factor: Double) -> Bool { shares.allSatisfy { $0.agrees(with: factor) } }

  /// What happened to the adapters whose share is not what it should be; `nil` where there are none.
  var accident: (TensorVerification.Accident, String?)? {
    let found = shares.filter { !$0.agrees(with: 1) }.map { share in
      let mistake = share.mistakes.filter { share.agrees(with: $0.factor) }
        .min { ($0.factor - share.factor).magnitude < ($1.factor - share.factor).magnitude }
      let reason = mistake?.reason ?? ScaleMistake.reason(of: share.factor)
      return (mistake?.accident ?? .wrongScale, "adapter \(share.adapter + 1): \(reason)")
    }
    guard let first = found.first else { return nil }
    return (
      found.allSatisfy { $0.0 == first.0 } ? first.0 : .wrongScale,
      found.map(\.1).joined(separator: "; ")
    )
  }
}
