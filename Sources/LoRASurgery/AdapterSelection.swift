import Adapters
import Tensors

extension NameMatcher {
  /// What is selected of an adapter, by the tensors that it changes.
  ///
  /// - Parameter adapter: The adapter.
  /// - Returns: The adapter with what is selected, and an entry for the report for each change that is left out.
  func selection(
    from adapter: Adapter
  ) -> (selected: Adapter, leftOut: [TensorReport]) {
    var (selected, leftOut) = (adapter, [TensorReport]())
    selected.modules.removeAll { module in
      if selects(module.tensorName) { return false }
      leftOut.append(.leftOut(module.tensorName, shape: module.shape))
      return true
    }
    selected.replacements.removeAll { replacement in
      if selects(replacement.tensorName) { return false }
      leftOut.append(.leftOut(replacement.tensorName, shape: replacement.tensor.info.shape))
      return true
    }
    return (selected, leftOut)
  }
}

extension TensorReport {
  /// A tensor that the options leave out.
  static func leftOut(_ name: TensorName, shape: Shape) -> Self {
    TensorReport(name, .skipped, shape: shape, reason: "not selected")
  }

  /// A tensor that an adapter stores in full.
  init(_ replacement: Replacement) {
    self.init(
      replacement.tensorName, .full, shape: replacement.tensor.info.shape,
      reason: replacement.reason)
  }
}

extension Replacement {
  /// The tensor that is replaced, as the adapter names it.
  var tensorName: TensorName { TensorName(target.tensorName) }
}
