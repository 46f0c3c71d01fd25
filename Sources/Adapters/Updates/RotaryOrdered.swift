import Checkpoints
public import LinearAlgebra
public import Tensors

/// A low-rank change of which the rows may follow Meta's order of rotary positions, where Hugging Face's differ.
///
/// In Meta's order the two halves of a rotated pair are neighbours, in Hugging Face's half a head apart. Rows (and magnitudes,
/// which torchtune's exporter forgets) are reordered when the base is in Hugging Face's names
/// (torchtune:torchtune/models/convert_weights.py, `_permute`).
public struct RotaryOrdered: Update {
  /// The change in the adapter's order.
  public var pair: LowRank
  /// DoRA's magnitudes.
  public var magnitude: Factor?
  /// Whether the module's output is rotated: queries and keys.
  public var isRotated: Bool

  /// Describes a change in Meta's order.
  ///
  /// - Parameters:
  ///   - pair: The change.
  ///   - magnitude: DoRA's magnitudes.
  ///   - isRotated: Whether the module's output is rotated.
  /// - Throws: `adapter.shape`.
  public init(_ pair: LowRank, magnitude: Factor?, isRotated: Bool) throws(SurgeryError) {
    if let magnitude {
      _ = try Decomposed(pair, magnitude: magnitude, axis: .outputs, convention: .peft)
    }
    self.pair = pair
    self.magnitude = magnitude
    self.isRotated = isRotated
  }

  /// LoRA or DoRA.
  public var algorithm: String { magnitude == nil ? "lora" : "dora" }
  /// Outputs.
  public var rows: Int { pair.rows }
  /// Inputs.
  public var columns: Int { pair.columns }
  /// The rank.
  public var rank: Int? { pair.rank }
  /// As the change itself.
  public var need: BlockNeed { magnitude == nil ? .any : .wholeRows }
  /// Unless there are magnitudes.
  public var isAdditive: Bool { magnitude == nil }
  /// The factors and magnitudes.
  public var factors: [Factor] { pair.factors + (magnitude.map { [$0] } ?? []) }

  /// Model types whose checkpoints torchtune takes over without reordering.
  private static let unordered: Set<String> = ["qwen2", "qwen3", "phi3"]

  /// Reorders the rows for a base in Hugging Face's names.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    var pair = pair
    var magnitude = magnitude
    let isHuggingFace = target.name.text.contains("self_attn.")
    if isRotated, isHuggingFace, !Self.unordered.contains(target.modelType ?? "") {
      let isKey = target.name.text.contains("k_proj")
      pair.up = try pair.up.interleavingHeads(
        target.heads, isKey: isKey, for: .torchtune, back: true)
      magnitude = try magnitude?.interleavingHeads(
        target.heads, isKey: isKey, for: .torchtune, back: true)
    }
    let update: any Update =
      if let magnitude {
        try Decomposed(pair, magnitude: magnitude, axis: .outputs, convention: .peft)
      } else { pair }
    return try update.fitted(to: target)
  }

  /// Reads the factors in the order that they have.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    guard let magnitude else { return try pair.loaded(scale: scale, as: Scalar.self) }
    return try Decomposed(pair, magnitude: magnitude, axis: .outputs, convention: .peft)
      .loaded(scale: scale, as: Scalar.self)
  }
}
