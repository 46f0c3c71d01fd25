import Tensors

/// The numbers by which GGUF names the types of metadata values.
enum GGUFValueType: UInt32 {
  case u8 = 0
  case i8, u16, i16, u32, i32, f32, bool, string, array, u64, i64, f64

  /// The least bytes that one value of the type takes.
  var minimumSize: UInt64 {
    switch self {
    case .u8, .i8, .bool: 1
    case .u16, .i16: 2
    case .u32, .i32, .f32: 4
    case .u64, .i64, .f64, .string: 8
    case .array: 12
    }
  }
}

extension GGUFValue {
  /// The format's text allows nested arrays without limit; nobody writes them.
  static let maximumDepth = 8

  /// Reads the type and the value of a key.
  init(reading cursor: inout GGUFCursor, key: String) throws(SurgeryError) {
    let what = "the value of \"\(DisplayText.escaped(key))\""
    switch try Self.type(&cursor, what) {
    case .u8: self = .u8(try cursor.integer(UInt8.self, what))
    case .i8: self = .i8(try cursor.integer(Int8.self, what))
    case .u16: self = .u16(try cursor.integer(UInt16.self, what))
    case .i16: self = .i16(try cursor.integer(Int16.self, what))
    case .u32: self = .u32(try cursor.integer(UInt32.self, what))
    case .i32: self = .i32(try cursor.integer(Int32.self, what))
    case .u64: self = .u64(try cursor.integer(UInt64.self, what))
    case .i64: self = .i64(try cursor.integer(Int64.self, what))
    case .f32: self = .f32(Float(bitPattern: try cursor.integer(UInt32.self, what)))
    case .f64: self = .f64(Double(bitPattern: try cursor.integer(UInt64.self, what)))
    case .bool: self = .bool(try Self.flag(try cursor.integer(UInt8.self, what), what, cursor))
    case .string: self = .string(try cursor.string(what))
    case .array: self = .array(try GGUFArray(reading: &cursor, what))
    }
  }

  fileprivate static func type(
    _ cursor: inout GGUFCursor, _ what: String
  ) throws(SurgeryError) -> GGUFValueType {
    let start = cursor.position
    let code = try cursor.integer(UInt32.self, "the type of \(what)")
    guard let type = GGUFValueType(rawValue: code) else {
      throw SurgeryError(
        .data, "gguf.value-type", "\(what) has an unknown type", expected: "0 to 12",
        found: "\(code)", offset: start)
    }
    return type
  }

  fileprivate static func flag(
    _ byte: UInt8, _ what: String, _ cursor: GGUFCursor
  ) throws(SurgeryError) -> Bool {
    guard byte <= 1 else {
      throw SurgeryError(
        .data, "gguf.bool", "\(what) is no boolean", expected: "0 or 1", found: "\(byte)",
        offset: cursor.position)
    }
    return byte == 1
  }
}

extension GGUFArray {
  /// An array whose elements are arrays, while they are being read.
  private struct Open {
    var elements: [GGUFArray] = []
    var missing: UInt64

    mutating func take(_ element: GGUFArray) {
      elements.append(element)
      missing -= 1
    }
  }

  /// Reads an array without recursion, however deep it is nested.
  fileprivate init(reading cursor: inout GGUFCursor, _ what: String) throws(SurgeryError) {
    var open: [Open] = []
    while true {
      let type = try GGUFValue.type(&cursor, what)
      let start = cursor.position
      let count = try cursor.integer(UInt64.self, "the length of \(what)")
      guard count <= cursor.rest / type.minimumSize else {
        throw cursor.beyondEnd(what, "gguf.array-length", needed: "\(count, counting: "element")")
      }
      if type == .array {
        open.append(Open(missing: count))
        guard open.count < GGUFValue.maximumDepth else {
          throw SurgeryError(
            .data, "gguf.depth", "\(what) is nested too deep",
            expected: "at most \(GGUFValue.maximumDepth) arrays", offset: start)
        }
      } else {
        let leaf = try Self(reading: &cursor, of: type, count: Int(count), what)
        if open.isEmpty {
          self = leaf
          return
        }
        open[open.count - 1].take(leaf)
      }
      // Whatever is complete becomes an element of what is around it.
      while let last = open.last, last.missing == 0 {
        open.removeLast()
        if open.isEmpty {
          self = .array(last.elements)
          return
        }
        open[open.count - 1].take(.array(last.elements))
      }
    }
  }

  /// Reads the elements of an array that holds no arrays; `count` is known to fit in the file.
  private init(
    reading cursor: inout GGUFCursor, of type: GGUFValueType, count: Int, _ what: String
  ) throws(SurgeryError) {
    switch type {
    case .u8: self = .u8(try cursor.integers(UInt8.self, count: count))
    case .i8: self = .i8(try cursor.integers(Int8.self, count: count))
    case .u16: self = .u16(try cursor.integers(UInt16.self, count: count))
    case .i16: self = .i16(try cursor.integers(Int16.self, count: count))
    case .u32: self = .u32(try cursor.integers(UInt32.self, count: count))
    case .i32: self = .i32(try cursor.integers(Int32.self, count: count))
    case .u64: self = .u64(try cursor.integers(UInt64.self, count: count))
    case .i64: self = .i64(try cursor.integers(Int64.self, count: count))
    case .f32:
      self = .f32(try cursor.integers(UInt32.self, count: count).map(Float.init(bitPattern:)))
    case .f64:
      self = .f64(try cursor.integers(UInt64.self, count: count).map(Double.init(bitPattern:)))
    case .bool:
      var flags: [Bool] = []
      for byte in try cursor.integers(UInt8.self, count: count) {
        flags.append(try GGUFValue.flag(byte, what, cursor))
      }
      self = .bool(flags)
    case .string:
      var texts: [String] = []
      for _ in 0..<count { texts.append(try cursor.string(what)) }
      self = .string(texts)
    case .array: preconditionFailure("an array of arrays is read by the caller")
    }
  }
}
