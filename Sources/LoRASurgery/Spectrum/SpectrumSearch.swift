import Checkpoints
import LinearAlgebra
import Tensors

/// Finds the singular values of one delta after the other.
struct SpectrumSearch: Sendable {
  /// How many of the leading values are wanted at least.
  let leading: Int
  let precision: Precision
  let interruption: Interruption

  /// What the exact decomposition of one delta may take; a fixed number, since the values must not depend on the machine.
  private static var exactBytes: Int { 48 << 20 }

  /// The longest shorter side that is decomposed exactly where a search would do: that costs its square.
  private static var exactSide: Int { 768 }

  /// Compares a tensor of both models and decomposes the difference.
  func examine(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> TensorSpectrum {
    if case .skip(let reason) = pair.treatment {
      return TensorSpectrum(pair, .skipped, reason: reason)
    }
    if try pair.tuned.hasSameBytes(as: pair.base, interruption: interruption) {
      return TensorSpectrum(pair, .unchanged)
    }
    guard pair.tuned.info.dtype.isNumeric, pair.base.info.dtype.isNumeric else {
      return TensorSpectrum(pair, .full, reason: "no numbers")
    }
    do throws(SurgeryError) {
      guard pair.isFactored else { return try measure(pair) }
      return switch precision {
      case .float32: try decompose(pair, as: Float.self)
      case .float64: try decompose(pair, as: Double.self)
      }
    } catch {
      throw pair.tuned.explained(error)
    }
  }

  /// The norm alone, of what extraction would keep in full.
  private func measure(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> TensorSpectrum {
    var delta = try DeltaMatrix<Double>(
      base: pair.base, tuned: pair.tuned, interruption: interruption)
    let squared = try squaredNorm(of: &delta)
    guard squared > 0 else { return TensorSpectrum(pair, .unchanged) }
    var tensor = TensorSpectrum(pair, .full, reason: "not a matrix")
    tensor.deltaNorm = squared.squareRoot()
    return tensor
  }

  private func decompose<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, as _: Scalar.Type
  ) throws(SurgeryError) -> TensorSpectrum {
    var spectra: [Spectrum] = []
    for index in 0..<pair.matrixCount {
      var delta = try DeltaMatrix<Scalar>(
        base: pair.matrix(index, of: pair.base), tuned: pair.matrix(index, of: pair.tuned),
        interruption: interruption)
      spectra.append(try spectrum(of: &delta))
    }
    let spectrum = spectra.count == 1 ? spectra[0] : Spectrum(together: spectra)
    guard spectrum.totalEnergy > 0 else { return TensorSpectrum(pair, .unchanged) }
    return TensorSpectrum(pair, spectrum, leading: leading)
  }

  private func spectrum<Scalar: BLASScalar>(
    of delta: inout DeltaMatrix<Scalar>
  ) throws(SurgeryError) -> Spectrum {
    let (rows, columns) = (delta.rows, delta.columns)
    let values: [Double]
    let energy: Double
    if isExact(delta, elementBytes: MemoryLayout<Scalar>.size) {
      let exact = try exactDecomposition(of: &delta, rank: 0)
      (values, energy) = (exact.singularValues, exact.squaredNorm)
    } else {
      let found = try leadingSubspace(of: &delta, target: .rank(min(leading, rows, columns)))
      (values, energy) = (found.singularValues, found.squaredNorm)
    }
    let isComplete = values.count == min(rows, columns)
    return Spectrum(
      values: values, totalEnergy: energy, rows: rows, columns: columns,
      elementNoise: isComplete ? try delta.tunedRoundingNoise() : 0)
  }

  /// Whether all values of a delta are worth having; what it takes stays below what a search at a high rank takes.
  private func isExact<Scalar: BLASScalar>(
    _ delta: DeltaMatrix<Scalar>, elementBytes: Int
  ) -> Bool {
    let shorter = min(delta.rows, delta.columns)
    guard shorter <= Self.exactSide else { return false }
    let bytes =
      elementBytes == 8
      ? 32 * delta.rows * delta.columns
      : 24 * shorter * shorter + (delta.rows < delta.columns ? 8 * delta.rows * delta.columns : 0)
    return bytes <= Self.exactBytes
  }
}
