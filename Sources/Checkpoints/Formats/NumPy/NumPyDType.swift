import Tensors

/// The element type of an npy array: what it is here, and how it is spelled there.
struct NumPyDType {
  /// The type of the delivered elements; float8 types without a name of their own are raw bytes of `rawWidth`.
  var dtype: DType
  var isBigEndian: Bool

  /// Reads the `descr` of a header.
  ///
  /// NumPy has no bfloat16 and no float8; ml_dtypes saves bfloat16 as `V2` and float8_e5m2 as `f1`, and all its other types
  /// of one byte as `V1`, which therefore only a record in the archive can name.
  ///
  /// - Parameters:
  ///   - descr: The value in the header.
  ///   - recorded: The true type that the archive records for the member, where it does.
  /// - Throws: `npy.object`, `npy.descr` or `npy.recorded` of kind `data`; `npy.dtype` and `npy.structured` of kind `unsupported`.
  init(_ descr: NumPyLiteral, recorded: DType?) throws(SurgeryError) {
    guard case .string(let text) = descr else {
      throw Self.refusal(of: descr)
    }
    let spelling = try Spelling(text)
    isBigEndian = spelling.isBigEndian
    guard let recorded else {
      dtype = try spelling.dtype()
      return
    }
    guard spelling.width == recorded.bytesPerElement, "uV".contains(spelling.kind)
    else {
      throw SurgeryError(
        .data, "npy.recorded", "the dtype that the archive records does not fit the array's descr",
        expected: "unsigned integers of the width of \(recorded)",
        found: "descr '\(DisplayText.escaped(text))'")
    }
    dtype = recorded
  }

  /// The descr that this program writes for a type, or `nil` where npy has none.
  ///
  /// Types that NumPy lacks are written as unsigned integers of the same width where the archive records the true one
  /// (`isRecorded`), and otherwise only bfloat16, in the spelling of ml_dtypes.
  static func descr(of dtype: DType, isRecorded: Bool) -> String? {
    switch dtype {
    case .bool: "|b1"
    case .u8: "|u1"
    case .i8: "|i1"
    case .u16: "<u2"
    case .i16: "<i2"
    case .u32: "<u4"
    case .i32: "<i4"
    case .u64: "<u8"
    case .i64: "<i8"
    case .f16: "<f2"
    case .f32: "<f4"
    case .f64: "<f8"
    case .c64: "<c8"
    case .bf16: isRecorded ? "<u2" : "<V2"
    case .f8e4m3, .f8e5m2, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz: isRecorded ? "|u1" : nil
    case .f4, .f6e2m3, .f6e3m2, .blockQuantised: nil
    }
  }

  /// Whether NumPy lacks the type, so that an archive must record it.
  static func needsRecord(_ dtype: DType) -> Bool {
    descr(of: dtype, isRecorded: true) != descr(of: dtype, isRecorded: false)
  }

  private static func refusal(of descr: NumPyLiteral) -> SurgeryError {
    if mentionsObject(descr) { return objectRefusal }
    switch descr {
    case .list(let fields) where !fields.isEmpty && fields.allSatisfy(isField):
      return SurgeryError(
        .unsupported, "npy.structured",
        "arrays of structured elements (several fields) are not read")
    case .tuple(let parts) where parts.count == 2:
      return SurgeryError(
        .unsupported, "npy.structured", "arrays of a structured dtype (sub-arrays) are not read")
    default:
      return SurgeryError(.data, "npy.descr", "the npy header has a descr that is no dtype")
    }
  }

  private static func isField(_ literal: NumPyLiteral) -> Bool {
    guard case .tuple(let parts) = literal else { return false }
    return 2...3 ~= parts.count
  }

  private static func mentionsObject(_ literal: NumPyLiteral) -> Bool {
    switch literal {
    case .string(let text): text.hasSuffix("O") || text.hasSuffix("O8") || text == "object"
    case .list(let parts), .tuple(let parts): parts.contains(where: mentionsObject)
    default: false
    }
  }

  fileprivate static let objectRefusal = SurgeryError(
    .data, "npy.object", "an array of Python objects; its data is a pickle, which was not opened",
    hint: "save numeric arrays")
}

/// A dtype string taken apart: byte order, kind and width.
private struct Spelling {
  let text: String
  var isBigEndian = false
  var kind: Character
  var width: Int

  init(_ text: String) throws(SurgeryError) {
    self.text = text
    if let (kind, width) = Self.words[text] {
      self.kind = kind
      self.width = width
      return
    }
    var rest = text.unicodeScalars[...]
    if let order = rest.first, "<>|=".unicodeScalars.contains(order) {
      isBigEndian = order == ">"
      rest.removeFirst()
    }
    kind = rest.popFirst().map(Character.init) ?? " "
    if kind == "O" { throw NumPyDType.objectRefusal }
    let digits = rest.prefix { "0"..."9" ~= $0 }
    let unit = rest.dropFirst(digits.count)
    guard let width = Int(String(digits)), unit.isEmpty || kind == "M" || kind == "m" else {
      throw Self.unknown(text)
    }
    self.width = width
  }

  private static func unknown(_ text: String) -> SurgeryError {
    SurgeryError(
      .data, "npy.descr", "the npy header has an unknown descr",
      found: "'\(DisplayText.escaped(text))'")
  }

  func dtype() throws(SurgeryError) -> DType {
    if let match = Self.types["\(kind)\(width)"] { return match }
    guard width > 0 else { throw Self.unknown(text) }
    switch kind {
    case "f" where width == 12 || width == 16, "c" where [16, 24, 32].contains(width):
      throw unsupported("numbers of this precision")
    case "S", "a": throw unsupported("byte strings")
    case "U": throw unsupported("text")
    case "M", "m": throw unsupported("dates and time spans")
    case "V" where width == 1:
      throw unsupported(
        "raw bytes: ml_dtypes saves float8 and 4-bit types alike in this way",
        hint: "save a view of unsigned integers, or convert to float32")
    case "V": throw unsupported("raw bytes")
    default: throw Self.unknown(text)
    }
  }

  private func unsupported(_ what: String, hint: String? = nil) -> SurgeryError {
    SurgeryError(
      .unsupported, "npy.dtype", "arrays of \(what) are not read",
      found: "descr '\(DisplayText.escaped(text))'", hint: hint)
  }

  private static let types: [String: DType] = [
    "b1": .bool, "u1": .u8, "i1": .i8, "u2": .u16, "i2": .i16, "u4": .u32, "i4": .i32,
    "u8": .u64, "i8": .i64, "f2": .f16, "f4": .f32, "f8": .f64, "c8": .c64, "V2": .bf16,
    "f1": .f8e5m2,
  ]

  private static let words: [String: (Character, Int)] = [
    "bool": ("b", 1), "uint8": ("u", 1), "int8": ("i", 1), "uint16": ("u", 2), "int16": ("i", 2),
    "uint32": ("u", 4), "int32": ("i", 4), "uint64": ("u", 8), "int64": ("i", 8),
    "float16": ("f", 2), "float32": ("f", 4), "float64": ("f", 8), "complex64": ("c", 8),
  ]
}
