/// Collects the bytes of a GGUF header, little-endian.
struct GGUFEncoder {
  private(set) var bytes: [UInt8] = []

  mutating func append(_ raw: [UInt8]) { bytes += raw }

  mutating func append(_ value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  mutating func append(_ text: String) {
    append(UInt64(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  /// Appends the type of a value and the value.
  mutating func append(typed value: GGUFValue) {
    append(value.type.rawValue)
    switch value {
    case .u8(let value): append(value)
    case .i8(let value): append(value)
    case .u16(let value): append(value)
    case .i16(let value): append(value)
    case .u32(let value): append(value)
    case .i32(let value): append(value)
    case .u64(let value): append(value)
    case .i64(let value): append(value)
    case .f32(let value): append(value.bitPattern)
    case .f64(let value): append(value.bitPattern)
    case .bool(let value): append(UInt8(value ? 1 : 0))
    case .string(let value): append(value)
    case .array(let value): append(typed: value)
    }
  }

  private mutating func append(typed array: GGUFArray) {
    append(array.elementType.rawValue)
    append(UInt64(array.count))
    switch array {
    case .u8(let elements): append(elements)
    case .i8(let elements): for element in elements { append(element) }
    case .u16(let elements): for element in elements { append(element) }
    case .i16(let elements): for element in elements { append(element) }
    case .u32(let elements): for element in elements { append(element) }
    case .i32(let elements): for element in elements { append(element) }
    case .u64(let elements): for element in elements { append(element) }
    case .i64(let elements): for element in elements { append(element) }
    case .f32(let elements): for element in elements { append(element.bitPattern) }
    case .f64(let elements): for element in elements { append(element.bitPattern) }
    case .bool(let elements): for element in elements { append(UInt8(element ? 1 : 0)) }
    case .string(let elements): for element in elements { append(element) }
    case .array(let elements): for element in elements { append(typed: element) }
    }
  }
}

extension GGUFValue {
  fileprivate var type: GGUFValueType {
    switch self {
    case .u8: .u8
    case .i8: .i8
    case .u16: .u16
    case .i16: .i16
    case .u32: .u32
    case .i32: .i32
    case .u64: .u64
    case .i64: .i64
    case .f32: .f32
    case .f64: .f64
    case .bool: .bool
    case .string: .string
    case .array: .array
    }
  }
}

extension GGUFArray {
  fileprivate var elementType: GGUFValueType {
    switch self {
    case .u8: .u8
    case .i8: .i8
    case .u16: .u16
    case .i16: .i16
    case .u32: .u32
    case .i32: .i32
    case .u64: .u64
    case .i64: .i64
    case .f32: .f32
    case .f64: .f64
    case .bool: .bool
    case .string: .string
    case .array: .array
    }
  }
}
