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

  /// The model types whose blocks are built of `transformers.pytorch_utils.Conv1D`
  /// (transformers:src/transformers/models/{gpt2,openai,imagegpt,decision_transformer,clvp}).
  private static let conv1DTypes: Set<String> = [
    "gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp", "clvp_decoder",
  ]
  private static let conv1DModules = ["c_attn", "c_proj", "c_fc", "q_attn"]

  /// Reads what the base says of itself.
  public init(of base: Checkpoint) {
    modelType = base.config?["model_type"]?.text
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
