import Checkpoints
import Tensors

/// The tensors that a PEFT adapter stores in full: modules_to_save, biases, embeddings beside an adapted vocabulary.
struct PEFTReplacements {
  private let config: PEFTConfig?

  init(_ config: PEFTConfig?) { self.config = config }

  func add(_ modules: PEFTModules, to adapter: inout Adapter) throws(SurgeryError) {
    let saved = try config?.names("modules_to_save") ?? []
    let reason =
      try config?.flag("ensure_weight_tying") == true
      ? Replacement.tiedSavedModule : Replacement.savedModule
    for (name, tensor) in modules.full {
      let (module, parameter) = ModuleUpdate.split(name)
      let isSaved = saved.contains { Self.lies(module, in: $0) }
      adapter.replacements.append(
        Replacement(
          target: TargetReference(module: module, parameter: parameter), tensor: tensor,
          reason: isSaved ? reason : nil))
    }
    try checkSaved(saved, modules)
    if try config?.text("bias") == "lora_only",
      !modules.full.contains(where: { $0.name.hasSuffix(".bias") })
    {
      adapter.provenance.warnings.append(
        "biases were trained (bias: lora_only) but the file does not hold them, as PEFT 0.7 to 0.20 leave them out"
      )
    }
  }

  /// Whether a module is the named one, or inside it.
  private static func lies(_ module: String, in name: String) -> Bool {
    ".\(module).".contains(".\(name).")
  }

  /// Names that PEFT adds by itself for the task, whether the model has them or not
  /// (peft:src/peft/peft_model.py, PeftModelForSequenceClassification and its kin).
  private func automatic() throws(SurgeryError) -> Set<String> {
    switch try config?.text("task_type") {
    case "SEQ_CLS", "TOKEN_CLS": ["classifier", "score"]
    case "QUESTION_ANS": ["qa_outputs"]
    default: []
    }
  }

  private func checkSaved(_ saved: [String], _ modules: PEFTModules) throws(SurgeryError) {
    let automatic = try automatic()
    for name in saved where !automatic.contains(name) {
      guard
        modules.full.contains(where: { Self.lies(ModuleUpdate.split($0.name).module, in: name) })
      else {
        throw SurgeryError.adapter(
          "incomplete", "adapter_config.json: modules_to_save names a module that the file lacks",
          file: config?.path, expected: "tensors of \(name)", found: "none")
      }
    }
  }
}
