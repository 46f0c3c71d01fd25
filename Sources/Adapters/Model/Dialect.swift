/// A way of laying out an adapter on disk.
public enum Dialect: String, Sendable, Hashable, Codable, CaseIterable {
  /// Hugging Face PEFT: `adapter_config.json` and `adapter_model.safetensors`.
  case peft
  /// kohya's sd-scripts and LyCORIS: one file, modules joined by underscores.
  case kohya
  /// diffusers: `pytorch_lora_weights.safetensors`, three generations of keys.
  case diffusers
  /// ComfyUI, Black Forest Labs and XLabs: dotted stems in one file.
  case comfyui
  /// Microsoft's loralib: `NAME.lora_A`, `NAME.lora_B`, nothing else stored.
  case loralib
  /// Apple's MLX: `adapters.safetensors` with factors transposed.
  case mlx
  /// llama.cpp: a GGUF file of type adapter.
  case gguf
  /// torchtune's native checkpoint.
  case torchtune
  /// Lightning's litgpt.
  case litgpt
  /// `torch_save` of the R package torch.
  case rTorch = "r-torch"
  /// Any pair of matrices under names of the author's own.
  case handWritten = "hand-written"
  /// The compact adapter format of this program.
  case compact
}

/// How a dialect keeps a tensor that changed and is not factored.
public enum FullTensorForm: Sendable, Hashable {
  /// The new tensor takes the place of the base's.
  case replacement
  /// The difference is stored and added.
  case difference
  /// The dialect has no place for it.
  case none
}

extension Dialect {
  /// How full tensors are kept: `modules_to_save` and biases in PEFT, `set_weight` in ComfyUI, `diff` and `diff_b` in LyCORIS.
  public var fullTensorForm: FullTensorForm {
    switch self {
    case .peft, .comfyui, .compact: .replacement
    case .kohya: .difference
    case .diffusers, .loralib, .mlx, .gguf, .torchtune, .litgpt, .rTorch, .handWritten: .none
    }
  }

  /// Whether the dialect is written with changes of experts that are stacked in one tensor.
  public var holdsExpertStacks: Bool { self == .peft || self == .compact }
}
