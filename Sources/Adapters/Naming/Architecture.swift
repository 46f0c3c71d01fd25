public import Checkpoints
public import Tensors

/// What a base's configuration and names say about how its weights are stored.
public struct Architecture: Sendable {
  /// Modules stored `in x out`, by the last component of their path; `nil` where nothing is known of the model.
  private let transposedModules: [String]?
  /// Whether the output head shares the input embedding's tensor.
  let tiesEmbeddings: Bool
  /// Whether the model's class has an output head, by its name.
  let hasHead: Bool
  /// The configuration's `model_type`.
  let modelType: String?
  /// The width of the model's stream, where the configuration says it.
  private let hiddenSize: Int?

  /// The model types whose blocks are built of `transformers.pytorch_utils.Conv1D`
  /// (transformers:src/transformers/models/{gpt2,openai,imagegpt,decision_transformer,clvp}).
  private static let conv1DTypes: Set<String> = [
    "gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp", "clvp_decoder",
  ]
  private static let conv1DModules = ["c_attn", "c_proj", "c_fc", "q_attn"]

  /// The model types whose classes say that their experts lie `in x out` (`is_transposed`), which PEFT goes by
  /// (transformers:src/transformers/models/{gpt_oss,aria,openai_privacy_filter}; peft:src/peft/tuners/lora/layer.py).
  private static let transposedExpertTypes: Set<String> = [
    "gpt_oss", "aria", "aria_text", "openai_privacy_filter",
  ]

  /// Reads what the base says of itself.
  public init(of base: Checkpoint) {
    modelType = base.config?["model_type"]?.text
    hiddenSize =
      base.config?["text_config"]?["hidden_size"]?.integer ?? base.config?["hidden_size"]?.integer
    // Absent means true to transformers up to version 4; with a head of its own the base has nothing tied.
    tiesEmbeddings = base.config.map { $0["tie_word_embeddings"]?.flag ?? true } ?? false
    hasHead = (base.config?["architectures"]?.elements ?? []).contains { element in
      ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "WithLMHead"].contains {
        element.text?.contains($0) == true
      }
    }
    if let type = base.config?["model_type"]?.text {
      transposedModules = Self.conv1DTypes.contains(type) ? Self.conv1DModules : []
    } else {
      transposedModules = Self.hasConv1D(base) ? Self.conv1DModules : nil
    }
  }

  /// Whether a tensor is stored transposed; `nil` where nothing is known.
  public func isTransposed(_ name: TensorName) -> Bool? {
    guard let transposedModules else { return nil }
    return transposedModules.contains {
      name.text.hasSuffix(".\($0).weight") || name.text == "\($0).weight"
    }
  }

  /// How a tensor holds the matrices of experts; `nil` where it is another tensor.
  ///
  /// - Parameter tensor: A tensor of the base.
  /// - Returns: The stack, in the orientation that PEFT takes it for.
  public func expertStack(_ tensor: TensorInfo) -> ExpertStack? {
    guard ExpertNames.isStack(tensor) else { return nil }
    return ExpertStack(tensor.shape, isTransposed: hasTransposedExperts(tensor))
  }

  private func hasTransposedExperts(_ tensor: TensorInfo) -> Bool {
    guard let modelType else { return false }
    if Self.transposedExpertTypes.contains(modelType) { return true }
    // Checkpoints of this one have either layout; loading turns those round that do not fit the class, which has `out x in`
    // (transformers:src/transformers/conversion_mapping.py, `Transpose(1, 2, check_dims=True)`).
    guard modelType.hasPrefix("qwen3_vl_moe"), let hiddenSize else { return false }
    let (rows, columns) = (tensor.shape.dimensions[1], tensor.shape.dimensions[2])
    let isDown = tensor.name.text.hasSuffix(".down_proj")
    return rows != columns && (isDown ? columns : rows) == hiddenSize
  }

  /// Without a configuration, a fused projection of shape `d x 3d` with a bias of `3d` gives GPT-2's family away.
  private static func hasConv1D(_ base: Checkpoint) -> Bool {
    base.tensors.contains { tensor in
      guard tensor.name.text.hasSuffix("attn.c_attn.weight"), tensor.info.shape.rank == 2 else {
        return false
      }
      return tensor.info.shape.dimensions[1] == 3 * tensor.info.shape.dimensions[0]
    }
  }
}

/// A tensor that holds one matrix for each expert of a mixture: `[count, rows, columns]`.
public struct ExpertStack: Sendable, Hashable {
  /// The number of experts.
  public let count: Int
  /// Rows of each matrix as it is stored.
  public let rows: Int
  /// Columns of each matrix as it is stored.
  public let columns: Int
  /// Whether each matrix is stored `in x out`.
  public let isTransposed: Bool

  /// Describes a stack; `nil` where the shape has not three dimensions.
  public init?(_ shape: Shape, isTransposed: Bool) {
    guard shape.rank == 3 else { return nil }
    (count, rows, columns) = (shape.dimensions[0], shape.dimensions[1], shape.dimensions[2])
    self.isTransposed = isTransposed
  }
}
