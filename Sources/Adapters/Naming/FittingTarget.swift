public import Tensors

/// A tensor of the base that an update is to fit, with all that decides its orientation.
public struct FittingTarget: Sendable {
  /// Its name in the base.
  public var name: TensorName
  /// Its shape; that of the replacement where the adapter brings one.
  public var shape: Shape
  /// The rows of the `out x in` matrix to change, where the adapter's module is a part of a fused tensor.
  public var part: Range<Int>?
  /// What the user says about the storage.
  public var saidTransposed: Bool?
  /// What the architecture says about the storage.
  public var knownTransposed: Bool?
  /// What the adapter's configuration says about the storage.
  public var configuredTransposed: Bool?
  /// The base's `model_type`.
  public var modelType: String?
  /// Which parts of a MergedLinear the user says are enabled.
  public var enabledParts: [Bool]?
  /// The rows of the tensors that make up a fused module, where the base splits what the adapter changes as one.
  public var pieces: [Int]?
  /// Whether the model's class marks its experts as stored `in x out`.
  public var hasTransposedExperts = false
  /// The attention heads of the base, where its configuration tells them.
  public var heads: AttentionHeads?

  /// Rows of the stored matrix: the first dimension, or all but the last where three dimensions are a stack.
  public var storedRows: Int { shape.rows }
  /// Columns of the stored matrix.
  public var storedColumns: Int { shape.columns }

  /// Whether the tensor stores the transpose of an update's matrix.
  ///
  /// What the user says decides, then the only possibility that the shapes leave, then the architecture, then the
  /// configuration. PEFT writes the last layer's `fan_in_fan_out` into the configuration of all (peft:src/peft/tuners/lora/model.py),
  /// so that comes last.
  ///
  /// - Parameters:
  ///   - rows: Rows of the update: outputs.
  ///   - columns: Columns of the update: inputs, kernel included.
  /// - Returns: True for storage as `in x out`.
  /// - Throws: `adapter.shape` or `adapter.vocab`.
  public func isTransposed(rows: Int, columns: Int) throws(SurgeryError) -> Bool {
    let outputs = part?.count
    let fitsStraight = rows == (outputs ?? storedRows) && columns == storedColumns
    let fitsTransposed =
      shape.rank == 2 && columns == storedRows && rows == (outputs ?? storedColumns)
    if let saidTransposed {
      guard saidTransposed ? fitsTransposed : fitsStraight else {
        throw mismatch(rows, columns)
      }
      return saidTransposed
    }
    switch (fitsStraight, fitsTransposed) {
    case (true, false): return false
    case (false, true): return true
    case (true, true): return knownTransposed ?? configuredTransposed ?? false
    case (false, false): throw mismatch(rows, columns)
    }
  }

  /// The target as `out x in`, for updates whose own shape does not tell how it is stored.
  func declaredOrientation() -> (isTransposed: Bool, rows: Int, columns: Int) {
    saidTransposed ?? knownTransposed ?? configuredTransposed ?? false
      ? (true, storedColumns, storedRows) : (false, storedRows, storedColumns)
  }

  /// The error for an update of another shape.
  func mismatch(_ rows: Int, _ columns: Int) -> SurgeryError {
    if shape.rank == 2, columns == storedColumns, isVocabulary {
      return .adapter(
        "vocab", "the vocabulary of adapter and base differ",
        expected: "\(storedRows, counting: "row") of \(name.text) \(shape)",
        found: "\(rows, counting: "row")",
        hint: "use the base that the adapter was trained on, or resize its embeddings first")
    }
    return .adapter(
      "shape", "the adapter does not fit the base",
      expected: "\(storedRows) x \(storedColumns) of base tensor \(name.text) \(shape)",
      found: "\(rows) x \(columns) (out x in)",
      hint: "use the base that the adapter was trained on")
  }

  private var isVocabulary: Bool {
    ["embed_tokens", "lm_head", "wte", "word_embeddings", "shared", "embed_in", "embed_out"]
      .contains { name.text.contains($0) }
  }
}
