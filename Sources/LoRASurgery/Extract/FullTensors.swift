import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

extension TensorFactoring {
  /// Reports a changed tensor that the adapter does not hold, with what that loses.
  func leaveOut(
    _ pair: ExtractPlan.Pair, reason: String
  ) throws(SurgeryError) -> TensorReport {
    var report = TensorReport(
      pair.tuned.name, .skipped, shape: pair.tuned.info.shape, reason: reason)
    guard pair.canBeSubtracted else { return report }
    do throws(SurgeryError) {
      var delta = try DeltaMatrix<Double>(
        base: pair.base, tuned: pair.tuned, interruption: interruption)
      let squared = try squaredNorm(of: &delta)
      report.setEnergies(squaredNorm: squared, squaredResidual: squared)
      return report
    } catch {
      throw pair.tuned.explained(error)
    }
  }

  /// Keeps a changed tensor whole, as the dialect keeps such.
  func keepFull(
    _ pair: ExtractPlan.Pair, reason: String?
  ) throws(SurgeryError) -> ExtractedTensor {
    var report = TensorReport(
      pair.tuned.name, .full, shape: pair.tuned.info.shape, reason: reason)
    if pair.canBeSubtracted {
      do throws(SurgeryError) {
        var delta = try DeltaMatrix<Double>(
          base: pair.base, tuned: pair.tuned, interruption: interruption)
        let squared = try squaredNorm(of: &delta)
        guard squared > 0 else {
          report.action = .unchanged
          return ExtractedTensor(report)
        }
        report.setEnergies(squaredNorm: squared, squaredResidual: 0)
        if pair.isKeptAsDifference(in: dialect) {
          return try keepDifference(pair, of: &delta, squaredNorm: squared, report)
        }
      } catch {
        throw pair.tuned.explained(error)
      }
    }
    return ExtractedTensor(report, content: .full(pair.tuned))
  }

  private func keepDifference(
    _ pair: ExtractPlan.Pair, of delta: inout DeltaMatrix<Double>, squaredNorm: Double,
    _ report: TensorReport
  ) throws(SurgeryError) -> ExtractedTensor {
    let dtype = request.dtype ?? pair.tuned.info.dtype
    var values: [Double] = []
    try delta.forEachBlock(in: 0..<delta.rows) { (_, block) in
      for index in block.indices { values.append(block[index]) }
    }
    var rounded = values
    var rounding = Rounding<Double>(to: dtype)
    var span = rounded.mutableSpan
    try rounding.round(&span)
    var report = report
    report.setEnergies(
      squaredNorm: squaredNorm,
      squaredResidual: zip(values, rounded).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) })
    let stored = try spool.append(
      rounded.narrowed(to: dtype), shape: pair.tuned.info.shape, as: dtype)
    return ExtractedTensor(report, content: .difference(stored))
  }
}

extension ExtractPlan.Pair {
  /// Whether the tensors have a difference: the same shape, and numbers in it.
  fileprivate var canBeSubtracted: Bool {
    tuned.info.shape == base.info.shape && tuned.info.dtype.isNumeric && base.info.dtype.isNumeric
  }

  /// Whether the dialect keeps the tensor as a difference: what is no weight has none that could be added.
  func isKeptAsDifference(in dialect: Dialect) -> Bool {
    dialect.fullTensorForm == .difference && canBeSubtracted && tuned.info.dtype.isFloatingPoint
      && base.info.dtype.isFloatingPoint
  }
}
