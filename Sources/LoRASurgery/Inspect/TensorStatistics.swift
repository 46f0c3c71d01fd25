import Checkpoints
import Tensors

/// What the elements of a tensor are like.
public struct TensorStatistics: Sendable, Codable, Hashable {
  /// The smallest finite element; absent where there is none.
  public var minimum: Double?
  /// The largest finite element; absent where there is none.
  public var maximum: Double?
  /// The mean of the finite elements; absent where there is none.
  public var mean: Double?
  /// The Frobenius norm of the finite elements.
  public var norm: Double
  /// Elements that are zero.
  public var zeros: Int
  /// Elements that are NaN.
  public var nan: Int
  /// Elements that are infinite.
  public var infinite: Int

  /// Position of the first element that is not finite.
  var firstNonFinite: Int?

  private enum CodingKeys: String, CodingKey {
    case minimum = "min"
    case maximum = "max"
    case mean, norm, zeros, nan, infinite
  }

  /// Streams the tensor's elements; sums are kept in double precision.
  ///
  /// - Complexity: One pass over the tensor, with a buffer of 256 Ki elements.
  init(
    of tensor: StoredTensor, interruption: Interruption, progress: Progress
  ) throws(SurgeryError) {
    let capacity = 1 << 18
    let total = tensor.info.shape.elementCount
    var reader = try ElementReader<Double>(tensor, capacity: min(capacity, total))
    var values = [Double](repeating: 0, count: min(capacity, total))
    var low = Double.infinity
    var high = -Double.infinity
    var sum = 0.0
    var squares = 0.0
    var (zeros, nan, infinite) = (0, 0, 0)
    var position = 0
    while position < total {
      try interruption.check()
      let count = min(capacity, total - position)
      var span = values.mutableSpan
      var block = span._mutatingExtracting(0..<count)
      try reader.read(from: position, into: &block)
      for index in 0..<count {
        let value = values[index]
        if value.isFinite {
          low = min(low, value)
          high = max(high, value)
          sum += value
          squares += value * value
          if value == 0 { zeros += 1 }
        } else {
          if nan + infinite == 0 { firstNonFinite = position + index }
          if value.isNaN { nan += 1 } else { infinite += 1 }
        }
      }
      position += count
      progress.advance(by: tensor.info.byteCount * count / total)
    }
    let finite = total - nan - infinite
    minimum = finite > 0 ? low : nil
    maximum = finite > 0 ? high : nil
    mean = finite > 0 ? sum / Double(finite) : nil
    norm = squares.squareRoot()
    self.zeros = zeros
    self.nan = nan
    self.infinite = infinite
  }
}
