import Checkpoints
import LinearAlgebra
import Tensors

/// A stored difference brought to whole numbers of one step, which is optimal where every element counts alike.
struct LossyDifference {
  private let values: Matrix<Double>

  /// Reads a difference.
  ///
  /// - Parameters:
  ///   - difference: The matrix.
  ///   - columns: Elements of a row of the result.
  /// - Throws: What reading throws; `adapter.non-finite`.
  init(_ difference: Factor, columns: Int) throws(SurgeryError) {
    let matrix = try difference.matrix(of: Double.self)
    values = Matrix(
      rows: columns == 0 ? 0 : matrix.elements.count / columns, columns: columns,
      elements: matrix.elements)
  }

  /// The Frobenius norm.
  var norm: Double { LossyPair.norm(values.elements) }

  /// Whole numbers within an error of the exact ones.
  ///
  /// - Parameter error: The greatest Frobenius norm of the difference; positive.
  /// - Returns: As many rows as the difference has.
  /// - Throws: `lra.error-not-met` where whole numbers cannot be that exact.
  func quantised(error: Double) throws(SurgeryError) -> QuantisedMatrix {
    guard norm.isFinite else { throw .errorNotMet() }
    let count = Double(max(values.elements.count, 1))
    var step = norm > error ? (12 * error * error / count).squareRoot() : 0
    for _ in 0..<40 {
      // Elements below half a step become zero and cost less than a step's noise, so a larger step often fits.
      let larger = quantised(step: step * 1.15)
      if step > 0, measuredError(of: larger) <= error {
        step *= 1.15
        continue
      }
      let matrix = quantised(step: step)
      if measuredError(of: matrix) <= error { return matrix }
      step *= 0.98
    }
    throw .errorNotMet()
  }

  private func quantised(step: Double) -> QuantisedMatrix {
    let pattern = FloatPatterns.narrowToBF16(Float(step))
    let own = Double(FloatPatterns.widen(bf16: pattern))
    let isUsable = own > 0 && own.isFinite
    let limit = Double(QuantisedMatrix.maximumCode)
    let codes = values.elements.map { value in
      isUsable ? Int32(min(max((value / own).rounded(.toNearestOrEven), -limit), limit)) : 0
    }
    return QuantisedMatrix(
      columns: values.columns,
      steps: [UInt16](repeating: isUsable ? pattern : 0, count: values.rows), codes: codes)
  }

  private func measuredError(of matrix: QuantisedMatrix) -> Double {
    var sum = 0.0
    for (found, exact) in zip(matrix.values, values.elements) {
      sum += (Double(found) - exact) * (Double(found) - exact)
    }
    return sum.squareRoot()
  }
}
