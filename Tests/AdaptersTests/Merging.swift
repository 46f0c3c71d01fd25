import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Merging as a pipeline does it, in blocks of random size, for tests.
enum Merging {
  /// The merged tensors that an adapter changes, widened to double, computed in the given precision.
  static func merged<Scalar: BLASScalar>(
    _ resolved: ResolvedAdapter, weight: Double = 1, as: Scalar.Type,
    using generator: inout some RandomNumberGenerator, inverse: Bool = false
  ) throws -> [TensorName: [Double]] {
    var result: [TensorName: [Double]] = [:]
    for tensor in resolved.tensors {
      result[tensor.name] = try merged(
        tensor, tensor.source, weight: weight, as: Scalar.self, using: &generator,
        inverse: inverse)
    }
    return result
  }

  static func merged<Scalar: BLASScalar>(
    _ tensor: TensorUpdates, _ source: StoredTensor, weight: Double, as: Scalar.Type,
    using generator: inout some RandomNumberGenerator, inverse: Bool = false
  ) throws -> [Double] {
    let change = try TensorChange<Scalar>(
      tensor.planned(weight: weight), inverse ? .unmerge : .merge)
    let values = try widened(source)
    let columns = tensor.storedColumns
    var result: [Double] = []
    var row = 0
    while row < tensor.storedRows {
      let count =
        tensor.worksByRows
        ? min(tensor.storedRows - row, Int.random(in: 1...7, using: &generator))
        : tensor.storedRows
      var block = Matrix<Scalar>(
        rows: count, columns: columns,
        elements: values[(row * columns)..<((row + count) * columns)].map { Scalar($0) })
      try change.apply(to: &block, rows: row..<(row + count))
      result += block.elements.map { Double($0) }
      row += count
    }
    return result
  }

  /// A tensor's values as double.
  static func widened(_ tensor: StoredTensor) throws -> [Double] {
    let bytes = try tensor.bytes()
    var values = [Double](repeating: 0, count: tensor.info.shape.elementCount)
    var span = values.mutableSpan
    unsafe ElementConversion.widen(bytes.span.bytes, from: tensor.info.dtype, into: &span)
    return values
  }

  /// The largest absolute difference; infinite where the counts differ.
  static func largestDifference(_ left: [Double], _ right: [Double]) -> Double {
    guard left.count == right.count else { return .infinity }
    return zip(left, right).reduce(0) { $1.0 == $1.1 ? $0 : max($0, ($1.0 - $1.1).magnitude) }
  }
}
