import Checkpoints
import LinearAlgebra
import Tensors

/// Two factors brought to whole numbers, with no more bits than an error of their product allows.
///
/// The product is decomposed without forming it (QR of both factors, SVD of the small core), so that component *k* is
/// `sqrt(s_k) [u_k | v_k]`, a row of `out + in` numbers. An error of variance *D* in each number of the row costs the
/// product `s_k (out + in) D`, so the step that is optimal for component *k* is `step / sqrt(s_k)` with one `step` for all:
/// the reverse water-filling of the Gaussian rate-distortion function (Cover & Thomas, *Elements of Information Theory*,
/// theorem 10.3.3), in which a component below the water costs more bits than it is worth and gets none.
struct LossyPair {
  private let left: Matrix<Double>
  private let right: Matrix<Double>
  private let roots: [Double]
  /// The singular values of the product, descending.
  let singularValues: [Double]

  /// Decomposes `up · down`.
  ///
  /// - Parameters:
  ///   - up: `out x rank`.
  ///   - down: `rank x in`.
  /// - Throws: `adapter.non-finite`, and what LAPACK throws.
  init(up: Factor, down: Factor) throws(SurgeryError) {
    let svd = try ProductSVD(
      Factors(up: try up.matrix(of: Double.self), down: try down.matrix(of: Double.self)))
    singularValues = svd.singularValues
    roots = singularValues.map { $0.squareRoot() }
    var (left, right) = (svd.left, svd.right)
    left.multiplyRows(by: roots)
    right.multiplyRows(by: roots)
    self.left = left
    self.right = right
  }

  /// The Frobenius norm of the product.
  var norm: Double { Self.norm(singularValues) }

  /// The root of a sum of squares.
  static func norm(_ values: [Double]) -> Double {
    values.reduce(0) { $0 + $1 * $1 }.squareRoot()
  }

  /// What the numbers of a component cost at a step, by the theory.
  struct Forecast {
    /// Components that are worth their bits.
    var rank: Int
    /// The square of the product's error.
    var squaredError: Double
  }

  /// The error that a step leads to: noise of the components above the water, and all of those below.
  ///
  /// - Parameters:
  ///   - singularValues: Of the product, descending.
  ///   - rows: Rows of the product.
  ///   - columns: Columns of the product.
  ///   - step: The common step.
  /// - Returns: The forecast.
  static func forecast(
    _ singularValues: [Double], rows: Int, columns: Int, step: Double
  ) -> Forecast {
    let noise = step * step / 12
    let size = Double(rows + columns)
    var rank = 0
    while rank < singularValues.count {
      let power = singularValues[rank] * singularValues[rank]
      // Bits of a uniform quantiser with an entropy coder: 0.25 more than Shannon's.
      let bits =
        Double(rows) * bits(power / Double(rows), noise)
        + Double(columns) * bits(power / Double(columns), noise)
      // At the optimum one bit buys 2 ln 2 of the noise of the number that it is spent on.
      guard power - size * noise > 1.386 * noise * bits else { break }
      rank += 1
    }
    let rest = singularValues[rank...].reduce(0) { $0 + $1 * $1 }
    return Forecast(rank: rank, squaredError: Double(rank) * size * noise + rest)
  }

  private static func bits(_ variance: Double, _ noise: Double) -> Double {
    guard variance > noise, noise > 0 else { return 0.05 }
    return binaryLogarithm(variance / noise) / 2 + 0.25
  }

  /// The greatest step of which the forecast error is within a limit.
  static func step(
    _ singularValues: [Double], rows: Int, columns: Int, squaredError: Double
  ) -> Double {
    let size = Double(max(rows + columns, 1))
    var (low, high) = (0.0, (12 * squaredError / size).squareRoot() * 2)
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if forecast(singularValues, rows: rows, columns: columns, step: middle).squaredError
        <= squaredError
      {
        low = middle
      } else {
        high = middle
      }
    }
    return low
  }

  /// The components as whole numbers, of which the product is within an error of the exact one.
  ///
  /// - Parameter error: The greatest Frobenius norm of the difference; positive.
  /// - Returns: One row of `out + in` numbers a component.
  /// - Throws: `lra.error-not-met` where the numbers cannot be that exact.
  func quantised(error: Double) throws(SurgeryError) -> QuantisedMatrix {
    let columns = left.columns + right.columns
    guard norm.isFinite else { throw .errorNotMet() }
    guard norm > error else {
      return QuantisedMatrix(
        columns: columns, steps: [0], codes: [Int32](repeating: 0, count: columns))
    }
    var step = Self.step(
      singularValues, rows: left.columns, columns: right.columns, squaredError: error * error)
    var best: (matrix: QuantisedMatrix, step: Double)?
    // The forecast is good to a few per cent where components are long; each round is a few times better. Measuring costs
    // more than all the rest, so it waits until the estimate is where it should be.
    for round in 0..<14 {
      let matrix = quantised(step: step)
      var found = estimatedError(of: matrix)
      if round >= 4 || (0.995 * error...0.9998 * error).contains(found) {
        found = measuredError(of: matrix)
        if found <= error {
          best = best.map { $0.step < step ? (matrix, step) : $0 } ?? (matrix, step)
          if found >= 0.994 * error || round >= 4 { break }
        }
      }
      // Only the noise follows the step; what lies below the water does not.
      let rest = Self.norm(Array(singularValues.dropFirst(matrix.rows)))
      let (wanted, own) = (
        max(error * error - rest * rest, 0), max(found * found - rest * rest, error * error * 1e-6)
      )
      let ratio = (wanted / own).squareRoot()
      step *= min(max(ratio, 0.5), 1.5) * (round < 6 ? 0.998 : 0.97)
    }
    guard let best else { throw .errorNotMet(relative: error / norm) }
    return best.matrix
  }

  private func quantised(step: Double) -> QuantisedMatrix {
    let rank = max(
      1,
      Self.forecast(
        singularValues, rows: left.columns, columns: right.columns, step: step
      ).rank)
    var steps: [UInt16] = []
    var inverses: [Double] = []
    for row in 0..<rank {
      let pattern = FloatPatterns.narrowToBF16(Float(step / roots[row]))
      let own = Double(FloatPatterns.widen(bf16: pattern))
      let isUsable = own > 0 && own.isFinite
      steps.append(isUsable ? pattern : 0)
      inverses.append(isUsable ? 1 / own : 0)
    }
    let width = left.columns + right.columns
    var codes = [Int32](repeating: 0, count: rank * width)
    var span = codes.mutableSpan
    for row in 0..<rank {
      for (factor, start) in [(left, 0), (right, left.columns)] {
        roundToCodes(
          factor.elements.span.extracting(row * factor.columns..<(row + 1) * factor.columns),
          times: inverses[row], into: &span, at: row * width + start)
      }
    }
    return QuantisedMatrix(columns: width, steps: steps, codes: codes)
  }

  /// The error of the product as the sum of its components' errors.
  ///
  /// Exact for the outputs, since the components' inputs are orthogonal; the reverse holds nearly.
  private func estimatedError(of matrix: QuantisedMatrix) -> Double {
    let width = left.columns + right.columns
    var sum = 0.0
    for k in 0..<left.rows {
      guard k < matrix.rows else {
        sum += singularValues[k] * singularValues[k]
        continue
      }
      let step = Double(FloatPatterns.widen(bf16: matrix.steps[k]))
      sum +=
        singularValues[k]
        * (squaredDistance(left, k, matrix.codes, at: k * width, step)
          + squaredDistance(right, k, matrix.codes, at: k * width + left.columns, step))
    }
    return sum.squareRoot()
  }

  private func squaredDistance(
    _ factor: Matrix<Double>, _ row: Int, _ codes: [Int32], at start: Int, _ step: Double
  ) -> Double {
    let count = factor.columns
    return squaredDistanceOfCodes(
      codes.span.extracting(start..<start + count), times: step,
      from: factor.elements.span.extracting(row * count..<(row + 1) * count))
  }

  /// The Frobenius norm of the difference between the numbers' product and the exact one, from what a reader will see.
  ///
  /// With `E = (Û - U) V + Û (V̂ - V) = [dU | Û] [V; dV]`, the squared norm is the sum of the elementwise product of two
  /// small Gram matrices; no large numbers cancel.
  ///
  /// - Parameter matrix: The whole numbers.
  /// - Returns: The norm, in double precision.
  /// - Complexity: O((*out* + *in*) · *rank*²).
  func measuredError(of matrix: QuantisedMatrix) -> Double {
    let values = matrix.values
    let outputs = found(values, of: matrix, columns: 0..<left.columns)
    let inputs = found(values, of: matrix, columns: left.columns..<matrix.columns)
    let first = Matrix(
      rows: 2 * left.rows, columns: left.columns,
      elements: differences(outputs, left.elements) + outputs)
    let second = Matrix(
      rows: 2 * left.rows, columns: right.columns,
      elements: right.elements + differences(inputs, right.elements))
    let grams = zip(
      product(first, first, transposeSecond: true).elements,
      product(second, second, transposeSecond: true).elements)
    return max(grams.reduce(0) { $0 + $1.0 * $1.1 }, 0).squareRoot()
  }

  /// Some columns of the values that a reader sees; components that got no bits are zero.
  private func found(
    _ values: [Float], of matrix: QuantisedMatrix, columns: Range<Int>
  ) -> [Double] {
    var result: [Double] = []
    result.reserveCapacity(left.rows * columns.count)
    for row in 0..<matrix.rows {
      let start = row * matrix.columns
      result.append(
        contentsOf: values[start + columns.lowerBound..<start + columns.upperBound].lazy.map {
          Double($0)
        })
    }
    result.append(
      contentsOf: repeatElement(0, count: (left.rows - matrix.rows) * columns.count))
    return result
  }
}

extension SurgeryError {
  /// The error for values, mostly far too large or too small, that whole numbers with a bfloat16 step cannot come near.
  static func errorNotMet(relative error: Double? = nil) -> Self {
    SurgeryError(
      .unsupported, "lra.error-not-met", "the stated error cannot be met with whole numbers",
      expected: error.map { "\($0)" }, hint: "a larger --max-error, or none for lossless")
  }
}
