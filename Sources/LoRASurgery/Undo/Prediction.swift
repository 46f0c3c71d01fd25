import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Predicts the elements of the base from those of the merged tensor, with the same bits on every machine.
struct BasePrediction<Scalar: BLASScalar>: Sendable {
  private let change: TensorChange<Scalar>
  private let rounding: BlockRounding<Scalar>
  private let geometry: BlockGeometry

  /// Reads the factors.
  ///
  /// - Parameter step: The step that merged or would unmerge; its updates are subtracted.
  /// - Throws: What reading throws; `adapter.non-finite`.
  init(_ step: TensorStep) throws(SurgeryError) {
    change = try TensorChange(step.updates, .unmerge)
    rounding = BlockRounding(source: step.dtype, target: step.dtype, stochastic: nil)
    geometry = step.geometry
  }

  /// The prediction of some rows, left in `buffers.prediction`.
  func predict(_ merged: [UInt8], rows: Range<Int>, buffers: inout BlockBuffers<Scalar>) {
    buffers.delta.reset(rows: rows.count, columns: geometry.columns)
    change.addDelta(to: &buffers.delta, rows: rows)
    var prediction: [UInt8] = []
    swap(&prediction, &buffers.prediction)
    if prediction.count != merged.count {
      prediction = [UInt8](repeating: 0, count: merged.count)
    }
    var bytes = prediction.mutableSpan
    var raw = unsafe bytes.mutableBytes
    _ = rounding.add(buffers.delta.elements, to: merged, into: &raw, at: 0, buffers: &buffers)
    swap(&prediction, &buffers.prediction)
  }
}

extension TensorStep {
  /// What the base of this step can be predicted from once it is merged.
  ///
  /// - Parameters:
  ///   - base: The base's tensor.
  ///   - isReplaced: Whether the source is the adapter's own tensor instead.
  /// - Returns: The best prediction that gives the same bits everywhere.
  func undoPrediction(of base: TensorInfo, isReplaced: Bool) -> UndoRecord.Prediction {
    guard dtype == base.dtype, source.info.shape == base.shape, dtype.isNumeric else {
      return .nothing
    }
    // Of a tensor that takes another's place, only the bytes of a copy are at hand when its base is recorded.
    if isReplaced { return isCopy ? .merged : .nothing }
    return isAdditive && updates.allSatisfy(\.update.isReproducible) && dtype.isFloatingPoint
      ? .subtract : .merged
  }

  /// Whether predictions are computed in double precision; independent of how the merge was computed.
  var predictsInDouble: Bool { needsDouble(Arithmetic()) }
}
