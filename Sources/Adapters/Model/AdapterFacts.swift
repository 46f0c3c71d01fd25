import Checkpoints
import Tensors

/// What `inspect` says of an adapter.
public struct AdapterFacts: Sendable, Codable, Hashable {
  /// The dialect.
  public var dialect: Dialect
  /// The one family of updates in it, or `mixed`.
  public var algorithm: String
  /// The number of modules changed.
  public var modules: Int
  /// The distinct ranks, ascending.
  public var ranks: [Int]
  /// The distinct scales, ascending; `nil` where the file does not say.
  public var scales: [Double]?
  /// The one dtype of its tensors, or `mixed`.
  public var dtype: String
  /// Elements of all its tensors.
  public var parameters: Int
}

extension Adapter {
  /// The facts of this adapter; nothing is read.
  public var facts: AdapterFacts {
    // Changes of biases go with the module that they belong to.
    let main = modules.filter { $0.target.parameter != "bias" }
    let counted = main.isEmpty ? modules : main
    let algorithms = Set(counted.map(\.update.algorithm))
    let factors = modules.flatMap(\.update.factors)
    let dtypes = Set(factors.map(\.dtype) + replacements.map(\.tensor.info.dtype))
    let scales = counted.map(\.scale)
    return AdapterFacts(
      dialect: provenance.dialect,
      algorithm: algorithms.count == 1
        ? algorithms.first ?? "none"
        : algorithms.isEmpty
          ? "full" : "mixed",
      modules: Set(counted.map(\.name)).count,
      ranks: Set(counted.compactMap(\.update.rank)).sorted(),
      scales: scales.contains(nil) ? nil : Set(scales.compactMap(\.self)).sorted(),
      dtype: dtypes.count == 1 ? dtypes.first?.name ?? "none" : "mixed",
      parameters: factors.reduce(0) { $0 + $1.count }
        + replacements.reduce(0) { $0 + $1.tensor.info.shape.elementCount })
  }
}
