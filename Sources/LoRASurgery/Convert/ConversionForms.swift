import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

extension Update {
  /// Whether every dialect of low-rank factors holds the update as it is.
  func isPlainProduct(keepsCore: Bool) -> Bool {
    guard let pair = self as? LowRank else { return self is HeadPermuted || self is StackedLowRank }
    return keepsCore || pair.core == nil
  }

  /// The update in the form of the tensor's layer, where the adapter's own words left that open.
  func inForm(
    of tensor: TensorUpdates, _ architecture: Architecture?
  ) throws(SurgeryError) -> any Update {
    if let stack = self as? StackedLowRank,
      let target = architecture?.expertStack(tensor.source.info)
    {
      return try stack.oriented(as: target)
    }
    guard var pair = self as? LowRank, pair.form == .linear else { return self }
    pair.form = tensor.form
    return pair
  }
}

extension TensorUpdates {
  /// Rows of the tensor's `out x in` matrix.
  var outputs: Int { isTransposed ? storedColumns : storedRows }

  /// The form of factors for this tensor.
  var form: LowRank.Form {
    let dimensions = source.info.shape.dimensions
    if dimensions.count > 2 { return .convolution(kernel: Array(dimensions.dropFirst(2))) }
    return ExtractPlan.isEmbedding(name) ? .embedding : .linear
  }

  /// The tensor with its changes made, for tensors that have no factors.
  func replaced(_ spool: FactorSpool) throws(SurgeryError) -> StoredTensor? {
    let info = source.info
    var reader = try ElementReader<Double>(source, capacity: info.shape.elementCount)
    var values = Matrix<Double>(rows: storedRows, columns: storedColumns)
    try values.withElements { (span) throws(SurgeryError) in try reader.read(from: 0, into: &span) }
    try TensorChange(planned(), .merge).apply(to: &values, rows: 0..<storedRows)
    return try spool.store(values, as: info.dtype, shape: info.shape).tensor.renamed(name)
  }
}

extension ModuleUpdate {
  /// The dtype of its first factor.
  var dtype: DType { update.factors.first?.dtype ?? .f32 }

  /// The form of the layer, as far as a stored difference tells it.
  var storedForm: LowRank.Form {
    guard let difference = update as? FullDifference else { return form }
    let dimensions = difference.difference.tensor.info.shape.dimensions
    return dimensions.count > 2 ? .convolution(kernel: Array(dimensions.dropFirst(2))) : .linear
  }

  /// Whether it changes a vector: a bias, a norm.
  var isVector: Bool { min(update.rows, update.columns) <= 1 }
}
