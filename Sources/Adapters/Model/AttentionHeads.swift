public import Checkpoints
import Tensors

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

extension Factor {
  /// The rows of queries or keys in the order of a dialect that interleaves the halves of each head, for its rotary embedding,
  /// or back in the order of the model.
  ///
  /// - Parameters:
  ///   - heads: Those of the model, where its configuration tells them.
  ///   - isKey: Whether the rows are those of keys, which may have fewer heads.
  ///   - dialect: The dialect, for the message.
  ///   - back: Whether the rows are in the order of the dialect.
  /// - Returns: The view.
  /// - Throws: `adapter.no-heads` where the heads are not known, `adapter.shape` where the rows do not make whole heads.
  func interleavingHeads(
    _ heads: AttentionHeads?, isKey: Bool, for dialect: Dialect, back: Bool
  ) throws(SurgeryError) -> Factor {
    guard let heads else {
      throw SurgeryError.adapter(
        "no-heads",
        "\(dialect.rawValue) has the rows of queries and keys in its own order, head by head",
        key: tensor.name.text, expected: "num_attention_heads in the base's config.json",
        found: "none", hint: "--base gives the model, or a folder with its config.json")
    }
    let count = isKey ? heads.keyValue : heads.query
    guard rows % (2 * count) == 0 else {
      throw SurgeryError.adapter(
        "shape", "the rows do not make whole heads", key: tensor.name.text,
        expected: "a multiple of 2 · \(count) heads", found: "\(rows) rows")
    }
    return interleavingHalves(groups: count, back: back)
  }
}
