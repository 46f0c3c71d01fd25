import Tensors

/// A typed metadata value of a GGUF file.
public enum GGUFValue: Sendable, Hashable {
  case u8(UInt8), i8(Int8), u16(UInt16), i16(Int16), u32(UInt32), i32(Int32)
  case u64(UInt64), i64(Int64)
  case f32(Float), f64(Double)
  case bool(Bool)
  case string(String)
  case array(GGUFArray)
}

/// An array of a GGUF file, in the width that it has there: a vocabulary has hundreds of thousands of elements.
public enum GGUFArray: Sendable, Hashable {
  case u8([UInt8]), i8([Int8]), u16([UInt16]), i16([Int16]), u32([UInt32]), i32([Int32])
  case u64([UInt64]), i64([Int64])
  case f32([Float]), f64([Double])
  case bool([Bool])
  case string([String])
  case array([GGUFArray])

  /// The number of elements.
  public var count: Int {
    switch self {
    case .u8(let elements): elements.count
    case .i8(let elements): elements.count
    case .u16(let elements): elements.count
    case .i16(let elements): elements.count
    case .u32(let elements): elements.count
    case .i32(let elements): elements.count
    case .u64(let elements): elements.count
    case .i64(let elements): elements.count
    case .f32(let elements): elements.count
    case .f64(let elements): elements.count
    case .bool(let elements): elements.count
    case .string(let elements): elements.count
    case .array(let elements): elements.count
    }
  }
}

/// The metadata of a GGUF file: typed values by key, in the order of the file.
///
/// Other containers hold strings, so the same metadata also travels as text (`texts`). A plan that carries both keeps the
/// types of the values whose text nobody changed:
///
///     plan.metadata = file.metadata          // edited as in any format
///     plan.ggufMetadata = file.ggufMetadata  // says which types the texts had
public struct GGUFMetadata: Sendable, Hashable {
  /// The keys in the order of the file.
  public private(set) var keys: [String] = []
  private var values: [TensorName: GGUFValue] = [:]

  /// Creates metadata without keys.
  public init() {}

  /// The value of a key; setting `nil` removes it, a new key is appended.
  public subscript(key: String) -> GGUFValue? {
    get { values[TensorName(key)] }
    set {
      let name = TensorName(key)
      if let newValue {
        if values.updateValue(newValue, forKey: name) == nil { keys.append(key) }
      } else if values.removeValue(forKey: name) != nil {
        keys.removeAll { TensorName($0) == name }
      }
    }
  }

  /// The text of a key, where it holds a string.
  public func string(_ key: String) -> String? {
    if case .string(let text) = self[key] { text } else { nil }
  }

  /// The number of a key as a double, where it holds one of any numeric type.
  public func number(_ key: String) -> Double? {
    switch self[key] {
    case .u8(let value): Double(value)
    case .i8(let value): Double(value)
    case .u16(let value): Double(value)
    case .i16(let value): Double(value)
    case .u32(let value): Double(value)
    case .i32(let value): Double(value)
    case .u64(let value): Double(value)
    case .i64(let value): Double(value)
    case .f32(let value): Double(value)
    case .f64(let value): value
    case .bool, .string, .array, nil: nil
    }
  }

  /// Every value as text.
  ///
  /// Strings stand as they are; numbers in decimal; booleans as `true` and `false`; arrays in brackets with their strings
  /// quoted as in JSON.
  public var texts: [String: String] {
    var texts: [String: String] = [:]
    texts.reserveCapacity(keys.count)
    for key in keys { texts[key] = self[key]?.text }
    return texts
  }
}

extension GGUFValue {
  /// The value as text; see `GGUFMetadata.texts`.
  public var text: String {
    switch self {
    case .u8(let value): String(value)
    case .i8(let value): String(value)
    case .u16(let value): String(value)
    case .i16(let value): String(value)
    case .u32(let value): String(value)
    case .i32(let value): String(value)
    case .u64(let value): String(value)
    case .i64(let value): String(value)
    case .f32(let value): "\(value)"
    case .f64(let value): "\(value)"
    case .bool(let value): value ? "true" : "false"
    case .string(let value): value
    case .array(let value): value.text
    }
  }
}

extension GGUFArray {
  /// The elements in brackets.
  var text: String {
    var out = ""
    write(to: &out)
    return out
  }

  private func write(to out: inout String) {
    func list<Element>(_ elements: [Element], _ write: (Element, inout String) -> Void) {
      out += "["
      for (index, element) in elements.enumerated() {
        if index > 0 { out += "," }
        write(element, &out)
      }
      out += "]"
    }
    func plain<Element: LosslessStringConvertible>(_ elements: [Element]) {
      list(elements) { $1 += $0.description }
    }
    switch self {
    case .u8(let elements): plain(elements)
    case .i8(let elements): plain(elements)
    case .u16(let elements): plain(elements)
    case .i16(let elements): plain(elements)
    case .u32(let elements): plain(elements)
    case .i32(let elements): plain(elements)
    case .u64(let elements): plain(elements)
    case .i64(let elements): plain(elements)
    case .f32(let elements): plain(elements)
    case .f64(let elements): plain(elements)
    case .bool(let elements): plain(elements)
    case .string(let elements): list(elements) { JSONValue.writeString($0, to: &$1) }
    case .array(let elements): list(elements) { $0.write(to: &$1) }
    }
  }
}
