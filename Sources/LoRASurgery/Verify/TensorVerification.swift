import Checkpoints
import LinearAlgebra
import Tensors

extension TensorVerification {
  /// Merges one tensor in memory and compares it with what is there.
  init(
    _ planned: PlannedRewrite, _ merged: StoredTensor?, _ precision: Precision,
    _ execution: Execution
  ) throws(SurgeryError) {
    self.init(planned.info.name, .exact)
    guard let merged else {
      verdict = .missing
      return
    }
    guard merged.info.shape == planned.info.shape else {
      verdict = .shape
      reason = "\(merged.info.shape) instead of \(planned.info.shape)"
      return
    }
    var step = planned.step(at: PlannedTensor(file: 0, tensor: 0))
    let dtypes = [merged.info.dtype, step.source.info.dtype]
    guard dtypes[0] == dtypes[1] || dtypes.allSatisfy(\.isNumeric) else {
      verdict = .dtype
      reason = "\(merged.info.dtype) instead of \(planned.info.dtype)"
      return
    }
    step.dtype = merged.info.dtype
    if step.isCopy {
      if try step.source.hasSameBytes(as: merged, interruption: execution.interruption) { return }
      guard step.dtype.isFloatingPoint else {
        verdict = .off
        accident = planned.report.action == .replaced ? .notApplied : .untouchedChanged
        return
      }
    }
    do throws(SurgeryError) {
      let comparison =
        step.needsDouble(Arithmetic(precision: precision))
        ? try UnitComparison(step, merged, precision, Double.self, execution)
        : try UnitComparison(step, merged, precision, Float.self, execution)
      exactShare = comparison.total > 0 ? Double(comparison.equal) / Double(comparison.total) : 1
      maximumUnits = comparison.maximum
      verdict = comparison.maximum == 0 ? .exact : comparison.maximum == 1 ? .close : .off
      if verdict == .off { try explain(planned, step, merged, execution) }
    } catch {
      throw merged.explained(error)
    }
  }

  private mutating func explain(
    _ planned: PlannedRewrite, _ step: TensorStep, _ merged: StoredTensor, _ execution: Execution
  ) throws(SurgeryError) {
    if step.updates.isEmpty {
      if planned.report.action == .replaced, let base = planned.base,
        try base.hasSameBytes(as: merged, interruption: execution.interruption)
      {
        (accident, reason) = (.notApplied, "the tensor is the base's, not the adapter's")
      } else {
        accident = planned.report.action == .replaced ? .otherBase : .untouchedChanged
      }
      return
    }
    let diagnosis = try Diagnosis(step, merged, execution)
    factor = diagnosis.factor
    if diagnosis.isRoundingOfSums {
      verdict = .close
      reason = "sums rounded in another order, at most \(maximumUnits ?? 0, counting: "unit") apart"
      return
    }
    (accident, reason) = diagnosis.accident
  }
}
