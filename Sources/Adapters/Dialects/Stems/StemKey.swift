/// The tails of keys in single-file dialects, and what the tensor is under a stem.
///
/// One family for kohya, LyCORIS, diffusers, ComfyUI and their relatives (ComfyUI:comfy/weight_adapter/*,
/// diffusers:src/diffusers/utils/state_dict_utils.py), since files mix them.
enum StemKey {
  /// What a tensor is.
  enum Part: String, Sendable, Hashable {
    case down, up, mid, alpha, magnitude, scalar, upBias
    case difference, biasDifference, normDifference, normBiasDifference
    case setWeight, reshapeWeight
    case hadaFirstA, hadaFirstB, hadaSecondA, hadaSecondB, hadaFirstCore, hadaSecondCore
    case krFirst, krFirstA, krFirstB, krSecond, krSecondA, krSecondB, krSecondCore
    case ia3Weight, ia3OnInput
    case oftBlocks, oftRescale, oftTriangle, oftScaled
    case gloraA1, gloraA2, gloraB1, gloraB2, gloraBM
  }

  /// Tails with the generation of keys that they belong to; a longer tail comes before one that ends it.
  static let tails: [(tail: String, part: Part, family: Family)] = [
    (".lora_down.weight", .down, .kohya), (".lora_up.weight", .up, .kohya),
    (".lora_mid.weight", .mid, .kohya),
    ("_lora.down.weight", .down, .processor), ("_lora.up.weight", .up, .processor),
    (".lora_linear_layer.down.weight", .down, .linearLayer),
    (".lora_linear_layer.up.weight", .up, .linearLayer),
    ("_lora1.down.weight", .down, .xlabs), ("_lora1.up.weight", .up, .xlabs),
    ("_lora2.down.weight", .down, .xlabs), ("_lora2.up.weight", .up, .xlabs),
    (".lora.down.weight", .down, .lora), (".lora.up.weight", .up, .lora),
    (".lora_A.default.weight", .down, .peft), (".lora_B.default.weight", .up, .peft),
    (".lora_A.weight", .down, .peft), (".lora_B.weight", .up, .peft),
    (".lora_B.bias", .upBias, .peft),
    (".lora_A", .down, .bare), (".lora_B", .up, .bare),
    (".lora_magnitude_vector.weight", .magnitude, .shared),
    (".lora_magnitude_vector", .magnitude, .shared), (".dora_scale", .magnitude, .shared),
    (".alpha", .alpha, .shared), (".scalar", .scalar, .shared),
    (".diff", .difference, .lycoris), (".diff_b", .biasDifference, .lycoris),
    (".w_norm", .normDifference, .lycoris), (".b_norm", .normBiasDifference, .lycoris),
    (".set_weight", .setWeight, .comfy), (".reshape_weight", .reshapeWeight, .comfy),
    (".hada_w1_a", .hadaFirstA, .lycoris), (".hada_w1_b", .hadaFirstB, .lycoris),
    (".hada_w2_a", .hadaSecondA, .lycoris), (".hada_w2_b", .hadaSecondB, .lycoris),
    (".hada_t1", .hadaFirstCore, .lycoris), (".hada_t2", .hadaSecondCore, .lycoris),
    (".lokr_w1", .krFirst, .lycoris), (".lokr_w1_a", .krFirstA, .lycoris),
    (".lokr_w1_b", .krFirstB, .lycoris), (".lokr_w2", .krSecond, .lycoris),
    (".lokr_w2_a", .krSecondA, .lycoris), (".lokr_w2_b", .krSecondB, .lycoris),
    (".lokr_t2", .krSecondCore, .lycoris),
    (".on_input", .ia3OnInput, .lycoris),
    (".oft_blocks", .oftBlocks, .lycoris), (".rescale", .oftRescale, .lycoris),
    (".oft_R.weight", .oftTriangle, .lycoris), (".oft_R.scaled_oft", .oftScaled, .lycoris),
    (".a1.weight", .gloraA1, .lycoris), (".a2.weight", .gloraA2, .lycoris),
    (".b1.weight", .gloraB1, .lycoris), (".b2.weight", .gloraB2, .lycoris),
    (".bm.weight", .gloraBM, .lycoris),
  ]

  /// A generation of keys.
  enum Family: Sendable, Hashable {
    case kohya, lycoris, processor, linearLayer, lora, peft, bare, comfy, xlabs
    /// Tails that several families use.
    case shared
  }

  /// A key's stem and what it is; `nil` for keys without any of the tails.
  static func split(_ key: String) -> (stem: String, part: Part, family: Family)? {
    for (tail, part, family) in tails where key.hasSuffix(tail) && key.utf8.count > tail.utf8.count
    {
      // XLabs counts the streams in the tail, so the count stays with the stem.
      let kept = family == .xlabs ? tail.prefix { $0 != "." } : ""
      return (String(key.dropLast(tail.count)) + kept, part, family)
    }
    return nil
  }
}
