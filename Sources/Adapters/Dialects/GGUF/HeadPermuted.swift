import Checkpoints
public import LinearAlgebra
public import Tensors

/// A low-rank change of queries or keys whose rows lie in the order of llama.cpp, which interleaves the halves of each
/// head for its rotary embedding (llama.cpp:convert_hf_to_gguf.py, `LlamaModel.permute`).
///
/// Fitting puts the rows back into the order of the model; the number of heads is in its configuration.
public struct HeadPermuted: Update {
  /// The factors, rows of `up` in the order of llama.cpp.
  public var inner: LowRank
  /// Whether the rows are those of keys, which may have fewer heads.
  public var isKey: Bool

  /// Describes a permuted change.
  public init(_ inner: LowRank, isKey: Bool) {
    self.inner = inner
    self.isKey = isKey
  }

  /// LoRA.
  public var algorithm: String { "lora" }
  /// Outputs.
  public var rows: Int { inner.rows }
  /// Inputs.
  public var columns: Int { inner.columns }
  /// The rank.
  public var rank: Int? { inner.rank }
  /// The rank.
  public var productRank: Int? { inner.productRank }
  /// The factors.
  public var factors: [Factor] { inner.factors }

  /// Puts the rows in the order of the model.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    try inModelOrder(target.heads).fitted(to: target)
  }

  /// The factors with the rows in the order of the model.
  ///
  /// - Parameter heads: Those of the model, where its configuration tells them.
  /// - Returns: The same change for the model's own tensor.
  /// - Throws: `adapter.no-heads`, `adapter.shape`.
  func inModelOrder(_ heads: AttentionHeads?) throws(SurgeryError) -> LowRank {
    var pair = inner
    pair.up = try pair.up.interleavingHeads(heads, isKey: isKey, for: .gguf, back: true)
    return pair
  }

  /// Reads the factors, rows in the order of llama.cpp.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    try inner.loaded(scale: scale, as: Scalar.self)
  }

  /// Reads the factors, rows in the order of llama.cpp.
  public func products<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> [Factors<Scalar>]? { try inner.products(as: Scalar.self) }

  /// A pair whose rows are in the order of llama.cpp.
  public func replacingProducts(
    up: Factor, down: Factor, form: LowRank.Form
  ) throws(SurgeryError) -> any Update {
    HeadPermuted(try LowRank(up: up, down: down, form: form), isKey: isKey)
  }
}
