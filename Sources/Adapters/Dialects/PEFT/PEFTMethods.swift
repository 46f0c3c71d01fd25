import Tensors

/// The `peft_type`s beside LORA, and why the others are refused (dialects.md, section 5).
enum PEFTMethods {
  /// A method that can be merged from its files and the base.
  enum Method: Sendable {
    case loha, lokr, ia3, oft, boft, adaLoRA, vera, hira, deLoRA, hra, c3a, shira, miss, layerNorm,
      tokens
    case graLoRA, vbLoRA
  }

  static func method(_ type: String) -> Method? {
    switch type {
    case "LOHA": .loha
    case "LOKR": .lokr
    case "IA3": .ia3
    case "OFT": .oft
    case "BOFT": .boft
    case "GRALORA": .graLoRA
    case "VBLORA": .vbLoRA
    case "ADALORA": .adaLoRA
    case "VERA": .vera
    case "HIRA": .hira
    case "DELORA": .deLoRA
    case "HRA": .hra
    case "C3A": .c3a
    case "SHIRA": .shira
    case "MISS": .miss
    case "LN_TUNING": .layerNorm
    case "TRAINABLE_TOKENS": .tokens
    default: nil
    }
  }

  private static let notMergeable: Set<String> = [
    "POLY", "XLORA", "ADAPTION_PROMPT", "PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING",
    "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE", "LILY", "PEANUT",
  ]

  private static let regenerated: Set<String> = [
    "ROAD", "RANDLORA", "PVERA", "FOURIERFT", "WAVEFT", "PSOFT", "OSF", "DEFT", "BEFT", "TINYLORA",
    "UNILORA", "FROD", "ADAMSS", "SUPERTUNING", "GLORA", "BONE",
  ]

  /// The error for a type that is not read.
  static func refusal(_ type: String, file: String?) -> SurgeryError {
    if notMergeable.contains(type) {
      return .unsupportedAdapter(
        "adapter_config.json: peft_type \(type) depends on the input or is no change of weights",
        id: "not-mergeable", file: file, found: "peft_type \(type)")
    }
    return .unsupportedAdapter(
      regenerated.contains(type)
        ? "adapter_config.json: peft_type \(type) is known but not computed by this program"
        : "adapter_config.json: peft_type is unknown", file: file, found: "peft_type \(type)")
  }
}
