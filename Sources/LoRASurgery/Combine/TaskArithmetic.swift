import LinearAlgebra
import Tensors

/// Puts matrices of several adapters together, element by element (peft:src/peft/utils/merge_utils.py).
struct TaskArithmetic: Sendable {
  let kind: CombineRequest.Method.Arithmetic
  /// The share of elements that pruning keeps; 1 keeps all.
  let density: Double
  let majoritySign: CombineRequest.MajoritySign
  let seed: UInt64

  /// The combination of matrices of one shape.
  ///
  /// - Parameters:
  ///   - matrices: One for each adapter; the memory of all is needed at once.
  ///   - weights: What each is multiplied with after pruning.
  ///   - name: Names the random numbers, so that they do not depend on the order of work.
  /// - Returns: The combination.
  func combined(_ matrices: [Matrix<Double>], weights: [Double], name: String) -> Matrix<Double> {
    let pruned = matrices.enumerated().map { index, matrix in
      prune(matrix.elements, stream: "\(name)#\(index)")
    }
    let elements: [Double]
    switch kind {
    case .sum, .dareSum, .prunedSum: elements = weightedSum(pruned, weights)
    case .ties, .dareTies: elements = disjointMean(pruned, weights)
    }
    return Matrix(rows: matrices[0].rows, columns: matrices[0].columns, elements: elements)
  }

  private func prune(_ values: [Double], stream: String) -> [Double] {
    if density >= 1 { return values }
    switch kind {
    case .sum: return values
    case .ties, .prunedSum: return largest(of: values)
    case .dareSum, .dareTies: return dropped(from: values, stream: stream)
    }
  }

  /// The `density · n` values of largest magnitude, the earlier first where they are equal; the others zero.
  private func largest(of values: [Double]) -> [Double] {
    let count = Int(density * Double(values.count))
    let order = values.indices.sorted {
      (values[$1].magnitude, $0) < (values[$0].magnitude, $1)
    }
    var kept = [Double](repeating: 0, count: values.count)
    for index in order.prefix(count) { kept[index] = values[index] }
    return kept
  }

  /// Each value kept with the probability `density` and divided by it, else zero.
  private func dropped(from values: [Double], stream: String) -> [Double] {
    var key = StableHash(seed: seed)
    key.add(stream)
    var random = RandomSource(seed: key.value)
    return values.map { value in
      // The upper 53 bits make a uniform number in [0, 1).
      Double(random.next() >> 11) * 0x1p-53 < density ? value / density : 0
    }
  }

  private func weightedSum(_ values: [[Double]], _ weights: [Double]) -> [Double] {
    var sum = [Double](repeating: 0, count: values[0].count)
    for (own, weight) in zip(values, weights) {
      for index in sum.indices { sum[index] += weight * own[index] }
    }
    return sum
  }

  /// The weighted values that have the elected sign, divided by their number; weights take no part in the election.
  private func disjointMean(_ values: [[Double]], _ weights: [Double]) -> [Double] {
    values[0].indices.map { index in
      let column = values.map { $0[index] }
      let vote = column.reduce(0.0) { sum, value in
        switch majoritySign {
        case .total: sum + value
        case .frequency: sum + (value > 0 ? 1 : value < 0 ? -1 : 0)
        }
      }
      var (sum, count) = (0.0, 0.0)
      for (value, weight) in zip(column, weights) where vote >= 0 ? value > 0 : value < 0 {
        sum += weight * value
        count += 1
      }
      return sum / max(count, 1)
    }
  }
}
