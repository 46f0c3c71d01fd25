import Testing

/// Refusals of single methods: what does not fit itself, its configuration, or a base tensor of 6 x 4.
extension RefusalTests {
  @Test(arguments: [
    Case.peft(
      #""peft_type":"MISS","r":2"#, "adapter.unknown-key", "q.hra_u", ["no meaning"],
      ["q.miss_block": [2, 6], "q.hra_u": [4, 2]]),
    .peft(
      #""peft_type":"LORA","r":2"#, "adapter.unknown-key", "q.hada_w1_a", ["no meaning"],
      ["q.lora_A.weight": [2, 4], "q.lora_B.weight": [6, 2], "q.hada_w1_a": [6, 2]]),
    .peft(
      #""peft_type":"LORA","r":2"#, "adapter.unknown-key", "q..lora_A.weight", ["of no kind"],
      ["q..lora_A.weight": [2, 4]]),
    .peft(
      #""peft_type":"LORA","r":2"#, "adapter.unknown-key", "q.lora_A.one.two.weight",
      ["of no kind"], ["q.lora_A.one.two.weight": [2, 4]]),
    .peft(
      #""peft_type":"LORA","r":2,"base_model_name_or_path":7"#, "adapter.config", nil,
      ["base_model_name_or_path", "expected a string, found 7"],
      ["q.lora_A.weight": [2, 4], "q.lora_B.weight": [6, 2]]),
    .peft(
      #""peft_type":"LORA","r":2"#, "adapter.conflict", "k.modules_to_save.weight",
      ["twice under two names"],
      ["k.modules_to_save.default.weight": [2], "k.modules_to_save.weight": [2]]),
    .peft(
      #""peft_type":"LORA","r":2,"modules_to_save":["q"]"#, "adapter.shape",
      "q.modules_to_save.weight", ["stores in full does not fit", "[6, 4] of base", "[6, 5]"],
      ["q.modules_to_save.weight": [6, 5]]),
    .peft(
      #""peft_type":"LORA","r":2,"target_parameters":["q.w"]"#, "adapter.shape",
      "q.lora_A.weight", ["a multiple of 2 rows (r)", "[5, 4]"],
      ["q.lora_A.weight": [5, 4], "q.lora_B.weight": [6, 5]]),
    .peft(
      #""peft_type":"LORA","r":2,"target_parameters":["q.weight"]"#, "adapter.shape",
      "q.lora_A.weight", ["does not fit the base", "found 2 experts of 6 x 4"],
      ["q.lora_A.weight": [4, 4], "q.lora_B.weight": [6, 4]]),
    .peft(
      #""r":3"#, "adapter.shape", "q.experts.w1.lora_B.weight", ["experts x out x 3", "[2, 6, 2]"],
      ["q.experts.w1.lora_A.weight": [2, 3, 4], "q.experts.w1.lora_B.weight": [2, 6, 2]]),
    .peft(
      #""peft_type":"LORA","r":3,"use_bdlora":{"target_modules_bd_a":["q"],"nblocks":2}"#,
      "adapter.shape", "q.lora_B.weight", ["2 blocks (use_bdlora.nblocks)"],
      ["q.lora_A.weight": [3, 2], "q.lora_B.weight": [6, 3]]),
    .peft(
      #""peft_type":"BOFT""#, "adapter.shape", "q.boft_R", ["does not fit the base", "6 x 6"],
      ["q.boft_R": [1, 3, 2, 2]]),
    .peft(
      #""peft_type":"BOFT""#, "adapter.shape", "q.boft_R", ["does not fit the base", "5 x 4"],
      ["q.boft_R": [1, 2, 2, 2], "q.boft_s": [5, 1]]),
    .peft(
      #""peft_type":"BOFT""#, "adapter.shape", "q.boft_R", ["stages x blocks"],
      ["q.boft_R": [31, 1, 2, 2]]),
    .peft(
      #""peft_type":"OFT""#, "adapter.shape", "q.oft_R", ["expected 1 for blocks of 2", "[2, 2]"],
      ["q.oft_R": [2, 2]]),
    .peft(
      #""peft_type":"OFT""#, "adapter.shape", "q.oft_R", ["does not fit the base", "6 x 6"],
      ["q.oft_R": [3, 1]]),
    .peft(
      #""peft_type":"GRALORA","r":4"#, "adapter.shape", "q.gralora_B_general",
      ["general factors", "expected 6 x 4, found 6 x 5"],
      [
        "q.gralora_A": [2, 2, 4], "q.gralora_B": [2, 4, 3], "q.gralora_A_general": [2, 5],
        "q.gralora_B_general": [6, 2],
      ]),
    .peft(
      #""peft_type":"VBLORA","r":2"#, "adapter.shape", "q.vblora_logits_A",
      ["three dimensions, the last 4", "[2, 2, 3]"],
      [
        "vblora_vector_bank": [4, 2], "q.vblora_logits_A": [2, 2, 3],
        "q.vblora_logits_B": [3, 2, 4],
      ]),
    .peft(
      #""peft_type":"VBLORA","r":2"#, "adapter.shape", "q.vblora_logits_B",
      ["multiples of 2", "found 3 and 6"],
      [
        "vblora_vector_bank": [4, 2], "q.vblora_logits_A": [1, 3, 4],
        "q.vblora_logits_B": [3, 2, 4],
      ]),
    .peft(
      #""peft_type":"ADALORA","r":2"#, "adapter.shape", "q.lora_E",
      ["weights of the ranks", "expected 2 values", "[3, 1]"],
      ["q.lora_A": [2, 4], "q.lora_B": [6, 2], "q.lora_E": [3, 1]]),
    .peft(
      #""peft_type":"VERA","r":2"#, "adapter.shape", "vera_A", ["does not fit the base"],
      [
        "vera_A": [2, 3], "vera_B": [6, 2], "q.vera_lambda_b": [6], "q.vera_lambda_d": [2],
      ]),
    .peft(
      #""peft_type":"HIRA","r":2"#, "adapter.shape", "q.hira_B",
      ["different ranks", "2 as in base_model.model.q.hira_A", "3 of shape [6, 3]"],
      ["q.hira_A": [2, 4], "q.hira_B": [6, 3]]),
    .peft(
      #""peft_type":"IA3""#, "adapter.shape", "q.ia3_l", ["does not fit the base", "6 x 3"],
      ["q.ia3_l": [1, 3]]),
    .peft(
      #""peft_type":"TRAINABLE_TOKENS","token_indices":5"#, "adapter.config", nil,
      ["token_indices", "a list of indices", "found 5"], ["q.trainable_tokens_delta": [2, 4]]),
    .peft(
      #""peft_type":"TRAINABLE_TOKENS","token_indices":{"q":5}"#, "adapter.config", nil,
      ["token_indices.q", "a list of indices", "found 5"], ["q.trainable_tokens_delta": [2, 4]]),
    .peft(
      #""peft_type":"TRAINABLE_TOKENS","token_indices":[1,-1]"#, "adapter.config", nil,
      ["expected indices, found -1"], ["q.trainable_tokens_delta": [2, 4]]),
    .peft(
      #""peft_type":"TRAINABLE_TOKENS""#, "adapter.incomplete", "q.trainable_tokens_delta",
      ["does not say which", "trainable_token_indices with q"],
      ["q.trainable_tokens_delta": [2, 4]]),
    .peft(
      #""peft_type":"TRAINABLE_TOKENS","token_indices":[1,9]"#, "adapter.vocab",
      "q.trainable_tokens_delta", ["indices below 6", "index 9"],
      ["q.trainable_tokens_delta": [2, 4]]),
  ])
  func methodsOfPEFT(_ refused: Case) throws { try expectRefusal(refused) }

  @Test(arguments: [
    Case.file(
      "adapter.shape", "lora_unet_q.hada_t1", ["rank x rank x kernel", "[4]"],
      [
        "lora_unet_q.hada_w1_a": [2, 6], "lora_unet_q.hada_w1_b": [2, 4],
        "lora_unet_q.hada_t1": [4], "lora_unet_q.hada_w2_a": [6, 2],
        "lora_unet_q.hada_w2_b": [2, 4],
      ]),
    .file(
      "adapter.shape", "lora_unet_q.lora_mid.weight", ["2 x 2 x kernel", "[3, 3, 1, 1]"],
      [
        "lora_unet_q.lora_down.weight": [2, 4, 1, 1], "lora_unet_q.lora_up.weight": [6, 2, 1, 1],
        "lora_unet_q.lora_mid.weight": [3, 3, 1, 1],
      ]),
    .file(
      "adapter.shape", "lora_unet_q.hada_w1_a", ["differ in shape", "6 x 4"],
      [
        "lora_unet_q.hada_w1_a": [6, 2], "lora_unet_q.hada_w1_b": [2, 4],
        "lora_unet_q.hada_w2_a": [5, 2], "lora_unet_q.hada_w2_b": [2, 4],
      ]),
    .file(
      "adapter.shape", "lora_unet_q.a1.weight", ["parts of a GLoRA", "found 3 x 3"],
      [
        "lora_unet_q.a1.weight": [3, 2], "lora_unet_q.a2.weight": [2, 3],
        "lora_unet_q.b1.weight": [6, 2], "lora_unet_q.b2.weight": [2, 4],
      ]),
    .file(
      "adapter.unsupported", "lora_unet_q.bm.weight", ["middle factor"],
      [
        "lora_unet_q.a1.weight": [4, 2], "lora_unet_q.a2.weight": [2, 4],
        "lora_unet_q.b1.weight": [6, 2], "lora_unet_q.b2.weight": [2, 4],
        "lora_unet_q.bm.weight": [2, 2],
      ]),
    .file(
      "adapter.unsupported", "lora_unet_q.oft_R.weight", ["scaled_oft"],
      ["lora_unet_q.oft_R.weight": [2, 1], "lora_unet_q.oft_R.scaled_oft": [1]]),
    .file(
      "adapter.conflict", "lora_unet_q.lora_down.weight", ["twice under two names"],
      [
        "lora_unet_q.lora_A.weight": [2, 4], "lora_unet_q.lora_down.weight": [2, 4],
        "lora_unet_q.lora_up.weight": [6, 2],
      ]),
    .file(
      "adapter.unknown-key", "something.else", ["names of no kind", "something.else"],
      [
        "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
        "something.else": [1],
      ]),
    .file(
      "adapter.shape", "lora_unet_q.dora_scale", ["6 values", "[5, 1]"],
      [
        "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
        "lora_unet_q.dora_scale": [5, 1],
      ]),
    .file(
      "adapter.shape", "lora_unet_q.oft_blocks", ["does not fit the base", "found 5 x 4"],
      ["lora_unet_q.oft_blocks": [3, 2, 2], "lora_unet_q.rescale": [5, 1]]),
    .file(
      "adapter.unknown-key", "k.lora_C", ["expected .lora_A and .lora_B"],
      ["q.lora_A": [2, 4], "q.lora_B": [6, 2], "k.lora_C": [1]]),
    .file(
      "adapter.shape", "q.lora_A", ["2 dimensions", "[2, 4, 1]"],
      ["q.lora_A": [2, 4, 1], "q.lora_B": [6, 2]]),
  ])
  func methodsInOneFile(_ refused: Case) throws { try expectRefusal(refused) }

  /// Codes instead of numbers, in each family: the tensor is named.
  @Test(arguments: [
    Case.peft(#""peft_type":"BOFT""#, "q.boft_R", ["q.boft_R": [1, 2, 2, 2]]),
    .peft(#""peft_type":"BOFT""#, "q.boft_s", ["q.boft_R": [1, 2, 2, 2], "q.boft_s": [6, 1]]),
    .peft(#""peft_type":"OFT""#, "q.oft_R", ["q.oft_R": [2, 1]]),
    .peft(#""peft_type":"IA3""#, "q.ia3_l", ["q.ia3_l": [6, 1]]),
    .peft(#""peft_type":"C3A""#, "q.c3a_kernel", ["q.c3a_kernel": [3, 2, 2]]),
    .peft(#""peft_type":"HRA","r":2"#, "q.hra_u", ["q.hra_u": [4, 2]]),
    .peft(
      #""peft_type":"TRAINABLE_TOKENS","token_indices":[1,2]"#, "q.trainable_tokens_delta",
      ["q.trainable_tokens_delta": [2, 4]]),
    .peft(
      #""peft_type":"VBLORA","r":2"#, "vblora_vector_bank",
      [
        "vblora_vector_bank": [4, 2], "q.vblora_logits_A": [2, 2, 4],
        "q.vblora_logits_B": [3, 2, 4],
      ]),
    .peft(
      #""peft_type":"VBLORA","r":2"#, "q.vblora_logits_A",
      [
        "vblora_vector_bank": [4, 2], "q.vblora_logits_A": [2, 2, 4],
        "q.vblora_logits_B": [3, 2, 4],
      ]),
    .peft(
      #""peft_type":"VBLORA","r":2"#, "q.vblora_logits_A_topk_weights",
      [
        "vblora_vector_bank": [4, 2], "q.vblora_logits_A_topk_indices": [2, 2, 2],
        "q.vblora_logits_A_topk_weights": [2, 2, 1], "q.vblora_logits_B": [3, 2, 4],
      ]),
    .peft(
      #""peft_type":"ADALORA","r":2"#, "q.lora_E",
      ["q.lora_A": [2, 4], "q.lora_B": [6, 2], "q.lora_E": [2, 1]]),
    .peft(
      #""peft_type":"LORA","r":2,"use_dora":true"#, "q.lora_magnitude_vector",
      [
        "q.lora_A.weight": [2, 4], "q.lora_B.weight": [6, 2], "q.lora_magnitude_vector": [6],
      ]),
    .file("adapter.dtype", "lora_unet_q.diff", [], ["lora_unet_q.diff": [6, 4]]),
    .file(
      "adapter.dtype", "lora_unet_q.rescale", [],
      ["lora_unet_q.oft_blocks": [3, 2, 2], "lora_unet_q.rescale": [6, 1]]),
    .file("adapter.dtype", "q.lora_A", [], ["q.lora_A": [2, 4], "q.lora_B": [6, 2]]),
  ])
  func integers(_ refused: Case) throws {
    var refused = refused
    refused.integers = refused.tensor
    refused.says = ["floating-point type", "found I32"]
    try expectRefusal(refused)
  }

  /// Types that are no numbers to compute with, where places or sizes are to stand.
  @Test(arguments: [
    Case.peft(
      #""peft_type":"SHIRA","r":2"#, "q.shira_indices",
      ["q.shira_weight": [1, 4], "q.shira_indices": [2, 4]]),
    .peft(
      #""peft_type":"VBLORA","r":2"#, "q.vblora_logits_A_topk_indices",
      [
        "vblora_vector_bank": [4, 2], "q.vblora_logits_A_topk_indices": [2, 2, 2],
        "q.vblora_logits_A_topk_weights": [2, 2, 1], "q.vblora_logits_B": [3, 2, 4],
      ]),
    .file(
      "adapter.dtype", "lora_unet_q.reshape_weight", [],
      [
        "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
        "lora_unet_q.reshape_weight": [2],
      ]),
  ])
  func indicesThatAreNoNumbers(_ refused: Case) throws {
    for dtype in ["F8_E8M0", "C64", "F4"] {
      var refused = refused
      refused.integers = refused.tensor
      refused.dtype = dtype
      refused.says = ["whole numbers", "expected an integer type", "found \(dtype)"]
      try expectRefusal(refused)
    }
  }
}

extension RefusalTests.Case {
  /// An adapter of PEFT of which one tensor holds integers.
  fileprivate static func peft(
    _ fields: String, _ tensor: String, _ tensors: [String: [Int]]
  ) -> Self {
    peft(fields, "adapter.dtype", tensor, [], tensors)
  }
}
