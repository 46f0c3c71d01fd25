public import Checkpoints
public import LinearAlgebra
public import Tensors

/// The attention heads of a model.
public struct AttentionHeads: Sendable, Hashable {
  /// Heads of the queries.
  public var query: Int
  /// Heads of the keys and values.
  public var keyValue: Int

  /// Numbers beyond this serve only to overflow a product.
  private static let possible = 1..<(1 << 31)

  /// Reads the heads from a model's `config.json`; `nil` where it does not tell them.
  public init?(config: JSONValue?) {
    guard let query = config?["num_attention_heads"]?.integer, Self.possible.contains(query)
    else { return nil }
    self.query = query
    let own = config?["num_key_value_heads"]?.integer ?? query
    keyValue = Self.possible.contains(own) ? own : query
  }
}

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
    guard let heads else { throw Self.headsUnknown(key: inner.up.tensor.name.text) }
    var pair = inner
    pair.up = try Self.reordered(pair.up, heads: isKey ? heads.keyValue : heads.query, back: true)
    return pair
  }

  /// The error where the number of heads is needed and not told.
  static func headsUnknown(key: String) -> SurgeryError {
    .adapter(
      "no-heads", "llama.cpp has the rows of queries and keys in its own order, head by head",
      key: key, expected: "num_attention_heads in the base's config.json", found: "none",
      hint: "--base gives the model, or a folder with its config.json")
  }

  /// Rows of a factor moved into llama.cpp's order, or back.
  static func reordered(_ up: Factor, heads: Int, back: Bool) throws(SurgeryError) -> Factor {
    guard heads > 0, up.rows % (2 * heads) == 0 else {
      throw SurgeryError.adapter(
        "shape", "the rows do not make whole heads", key: up.tensor.name.text,
        expected: "a multiple of 2 · \(heads) heads", found: "\(up.rows) rows")
    }
    return up.interleavingHalves(groups: heads, back: back)
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
