/// The type of a tensor's elements, in the spelling of safetensors.
///
/// Types that safetensors lacks and other containers have (the block-quantised types of GGUF) are carried
/// as `blockQuantised`; they can be listed and copied, not computed with, except where a reader widens them.
public enum DType: Hashable, Sendable {
  case bool
  case u8, i8, u16, i16, u32, i32, u64, i64
  case f16, bf16, f32, f64
  case f8e4m3, f8e5m2
  /// Types of which this program only moves the bytes.
  case f8e8m0, f8e4m3fnuz, f8e5m2fnuz, f4, f6e2m3, f6e3m2, c64
  case blockQuantised(BlockQuantisation)

  /// Every type that safetensors can hold.
  public static let safetensors: [DType] = [
    .bool, .u8, .i8, .u16, .i16, .u32, .i32, .u64, .i64, .f16, .bf16, .f32, .f64, .f8e4m3, .f8e5m2,
    .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .f4, .f6e2m3, .f6e3m2, .c64,
  ]

  /// The name that safetensors uses, or the container's own name of a block-quantised type.
  public var name: String {
    switch self {
    case .bool: "BOOL"
    case .u8: "U8"
    case .i8: "I8"
    case .u16: "U16"
    case .i16: "I16"
    case .u32: "U32"
    case .i32: "I32"
    case .u64: "U64"
    case .i64: "I64"
    case .f16: "F16"
    case .bf16: "BF16"
    case .f32: "F32"
    case .f64: "F64"
    case .f8e4m3: "F8_E4M3"
    case .f8e5m2: "F8_E5M2"
    case .f8e8m0: "F8_E8M0"
    case .f8e4m3fnuz: "F8_E4M3FNUZ"
    case .f8e5m2fnuz: "F8_E5M2FNUZ"
    case .f4: "F4"
    case .f6e2m3: "F6_E2M3"
    case .f6e3m2: "F6_E3M2"
    case .c64: "C64"
    case .blockQuantised(let type): type.name
    }
  }

  /// The type of safetensors with this exact name.
  public init?(safetensorsName name: String) {
    guard let match = Self.safetensors.first(where: { $0.name == name }) else { return nil }
    self = match
  }

  /// Bits of one element; for block-quantised types `nil`.
  public var bitsPerElement: Int? {
    switch self {
    case .f4: 4
    case .f6e2m3, .f6e3m2: 6
    case .bool, .u8, .i8, .f8e4m3, .f8e5m2, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz: 8
    case .u16, .i16, .f16, .bf16: 16
    case .u32, .i32, .f32: 32
    case .u64, .i64, .f64, .c64: 64
    case .blockQuantised: nil
    }
  }

  /// Bytes of one element, where elements are whole bytes.
  public var bytesPerElement: Int? {
    guard let bits = bitsPerElement, bits % 8 == 0 else { return nil }
    return bits / 8
  }

  /// Bytes of the unit that a big-endian container reverses.
  public var byteOrderUnit: Int { self == .c64 ? 4 : bytesPerElement ?? 1 }

  /// Whether the type is a binary floating-point type that this program computes with.
  public var isFloatingPoint: Bool {
    switch self {
    case .f16, .bf16, .f32, .f64, .f8e4m3, .f8e5m2: true
    default: false
    }
  }

  /// Whether elements can be widened to `Float` and `Double`: floating-point, integer or boolean.
  public var isNumeric: Bool {
    switch self {
    case .bool, .u8, .i8, .u16, .i16, .u32, .i32, .u64, .i64: true
    default: isFloatingPoint
    }
  }

  /// Bytes that `elementCount` elements take, or `nil` where they do not fill whole bytes or blocks, or where
  /// the product exceeds the range of `Int`.
  public func byteCount(ofElements elementCount: Int) -> Int? {
    if case .blockQuantised(let type) = self {
      guard elementCount % type.elementsPerBlock == 0 else { return nil }
      let (bytes, overflow) = (elementCount / type.elementsPerBlock)
        .multipliedReportingOverflow(by: type.bytesPerBlock)
      return overflow ? nil : bytes
    }
    guard let bitsPerElement else { return nil }
    let (bits, overflow) = elementCount.multipliedReportingOverflow(by: bitsPerElement)
    return overflow || bits % 8 != 0 ? nil : bits / 8
  }
}

/// A storage type that packs a fixed number of elements with their scale into one block of bytes.
public struct BlockQuantisation: Hashable, Sendable {
  /// 32 signed bytes and their float16 scale, of ggml (`block_q8_0`).
  public static let q8_0 = BlockQuantisation(
    name: "Q8_0", elementsPerBlock: 32, bytesPerBlock: 34)

  /// The name that the container's specification uses, such as `Q8_0`.
  public let name: String
  /// Elements in one block; rows are whole blocks.
  public let elementsPerBlock: Int
  /// Bytes of one block.
  public let bytesPerBlock: Int

  /// Describes a block type.
  public init(name: String, elementsPerBlock: Int, bytesPerBlock: Int) {
    self.name = name
    self.elementsPerBlock = elementsPerBlock
    self.bytesPerBlock = bytesPerBlock
  }
}

extension DType: Codable, CustomStringConvertible {
  /// The type's name.
  public var description: String { name }

  /// Reads the type from its name.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let name = try container.decode(String.self)
    if name == BlockQuantisation.q8_0.name {
      self = .blockQuantised(.q8_0)
      return
    }
    guard let type = DType(safetensorsName: name) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "no dtype \(name)")
    }
    self = type
  }

  /// Writes the type as its name.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(name)
  }
}
