import Tensors

/// The element types of GGUF by their numbers, from `enum ggml_type` in ggml/include/ggml.h.
enum GGUFTensorType {
  /// What a type number means.
  enum Meaning {
    case plain(DType)
    case blocks(BlockQuantisation)
    /// A number that ggml gave up; files with it need an old program.
    case removed(String)
    case unknown
  }

  static func meaning(of code: UInt32) -> Meaning {
    if let dtype = plain.first(where: { $0.code == code })?.dtype { return .plain(dtype) }
    if let type = blocks.first(where: { $0.code == code })?.type { return .blocks(type) }
    if let name = removed.first(where: { $0.code == code })?.name { return .removed(name) }
    return .unknown
  }

  /// The number of a dtype; `nil` where GGUF has no such type.
  static func code(of dtype: DType) -> UInt32? {
    if case .blockQuantised(let type) = dtype { return blocks.first { $0.type == type }?.code }
    return plain.first { $0.dtype == dtype }?.code
  }

  private static let plain: [(code: UInt32, dtype: DType)] = [
    (0, .f32), (1, .f16), (24, .i8), (25, .i16), (26, .i32), (27, .i64), (28, .f64), (30, .bf16),
  ]

  // Q8_1 as block_q8_1 of ggml has it; gguf-py still lists the 40 bytes of an older layout.
  private static let blocks: [(code: UInt32, type: BlockQuantisation)] = [
    block(2, "Q4_0", 32, 18), block(3, "Q4_1", 32, 20), block(6, "Q5_0", 32, 22),
    block(7, "Q5_1", 32, 24), (8, .q8_0), block(9, "Q8_1", 32, 36), block(10, "Q2_K", 256, 84),
    block(11, "Q3_K", 256, 110), block(12, "Q4_K", 256, 144), block(13, "Q5_K", 256, 176),
    block(14, "Q6_K", 256, 210), block(15, "Q8_K", 256, 292), block(16, "IQ2_XXS", 256, 66),
    block(17, "IQ2_XS", 256, 74), block(18, "IQ3_XXS", 256, 98), block(19, "IQ1_S", 256, 50),
    block(20, "IQ4_NL", 32, 18), block(21, "IQ3_S", 256, 110), block(22, "IQ2_S", 256, 82),
    block(23, "IQ4_XS", 256, 136), block(29, "IQ1_M", 256, 56), block(34, "TQ1_0", 256, 54),
    block(35, "TQ2_0", 256, 66), block(39, "MXFP4", 32, 17), block(40, "NVFP4", 64, 36),
    block(41, "Q1_0", 128, 18),
  ]

  private static let removed: [(code: UInt32, name: String)] = [
    (4, "Q4_2"), (5, "Q4_3"), (31, "Q4_0_4_4"), (32, "Q4_0_4_8"), (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"), (37, "IQ4_NL_4_8"), (38, "IQ4_NL_8_8"),
  ]

  private static func block(
    _ code: UInt32, _ name: String, _ elements: Int, _ bytes: Int
  ) -> (code: UInt32, type: BlockQuantisation) {
    (
      code,
      BlockQuantisation(name: name, elementsPerBlock: elements, bytesPerBlock: bytes)
    )
  }
}
