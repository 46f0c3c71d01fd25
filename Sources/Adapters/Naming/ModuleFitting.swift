import Checkpoints
import Tensors

/// Makes modules of an adapter fit tensors of a base: pieces of fused tensors, orientation, experts.
struct ModuleFitting {
  let base: Checkpoint
  let options: ModuleOptions
  let architecture: Architecture
  /// Whether the adapter itself says that its targets are stored transposed.
  let configuredTransposed: Bool?

  /// A change made to fit one tensor.
  struct Fit {
    var tensor: TensorName
    var fitted: FittedUpdate
    var rows: Range<Int>
  }

  /// Makes a module fit the tensors of a candidate.
  ///
  /// - Parameters:
  ///   - module: The module.
  ///   - candidate: The tensors of the base that it may mean.
  ///   - source: The tensor as it is changed, which may be another than the base's; `nil` where there is none.
  /// - Returns: One fit for each of the candidate's tensors that there is.
  /// - Throws: `adapter.shape` and what the update throws where it does not fit.
  func fits(
    of module: ModuleUpdate, _ candidate: BaseNames.Candidate,
    source: (TensorName) throws(SurgeryError) -> StoredTensor?
  ) throws(SurgeryError) -> [Fit] {
    var result: [Fit] = []
    var firstRow = 0
    let whole = candidate.entries.count > 1 ? try fused(module, candidate) : nil
    for entry in candidate.entries {
      guard let stored = try source(entry.tensor) else { continue }
      guard stored.info.dtype.isFloatingPoint else {
        throw QuantisedBase.error(found: "\(stored.info.dtype) in \(entry.tensor.text)")
      }
      var update = module.update
      if let whole {
        let rows = firstRow..<(firstRow + (entry.part?.count ?? stored.info.shape.rows))
        firstRow = rows.upperBound
        guard let slice = whole.slice(rows: rows) else {
          throw SurgeryError.unsupportedAdapter(
            "the base splits a module that the adapter changes as one", id: "unsupported-layout",
            found: candidate.entries.map(\.tensor.text).listed())
        }
        guard let slice = slice.update else { continue }
        update = slice
      }
      let fitted = try update.fitted(
        to: target(module, entry.tensor, shape: stored.info.shape, part: entry.part))
      result.append(
        Fit(
          tensor: entry.tensor, fitted: fitted,
          rows: entry.part ?? 0..<max(fitted.update.rows, 1)))
    }
    if let whole, firstRow != whole.rows {
      throw SurgeryError.adapter(
        "shape", "the adapter does not fit the base", expected: "\(firstRow, counting: "row")",
        found: "\(whole.rows, counting: "row")")
    }
    return result
  }

  private func target(
    _ module: ModuleUpdate, _ tensor: TensorName, shape: Shape, part: Range<Int>? = nil
  ) -> FittingTarget {
    FittingTarget(
      name: tensor, shape: shape, part: part, saidTransposed: options.isTransposed(module.name),
      knownTransposed: architecture.isTransposed(tensor),
      configuredTransposed: configuredTransposed, modelType: architecture.modelType,
      enabledParts: options.enabledParts(module.name),
      hasTransposedExperts: base[tensor].flatMap { architecture.expertStack($0.info) }?.isTransposed
        ?? false, heads: AttentionHeads(config: base.config))
  }

  /// The update as it would fit the tensor that the pieces make up together.
  private func fused(
    _ module: ModuleUpdate, _ candidate: BaseNames.Candidate
  ) throws(SurgeryError) -> any Update {
    guard let first = candidate.entries.first, let shape = base[first.tensor]?.info.shape else {
      return module.update
    }
    let heights = candidate.entries.map { $0.part?.count ?? base[$0.tensor]?.info.shape.rows ?? 0 }
    let rows = heights.reduce(0, +)
    var dimensions = [rows] + shape.dimensions.dropFirst()
    if let stack = module.update as? StackedLowRank, stack.experts > 0,
      rows.isMultiple(of: stack.experts)
    {
      dimensions = [stack.experts, rows / stack.experts, shape.columns]
    }
    guard let together = Shape(dimensions) else { return module.update }
    var target = target(module, first.tensor, shape: together)
    target.pieces = heights
    let fitted = try module.update.fitted(to: target)
    guard !fitted.isTransposed else {
      throw SurgeryError.unsupportedAdapter(
        "the base splits a module that the adapter changes transposed", id: "unsupported-layout",
        found: candidate.entries.map(\.tensor.text).listed())
    }
    return fitted.update
  }
}
