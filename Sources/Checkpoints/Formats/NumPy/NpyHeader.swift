import Tensors

/// The header of an npy array, parsed and checked (NumPy Enhancement Proposal 1, `numpy/lib/_format_impl.py`).
struct NpyHeader {
  static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)
  /// Magic, version and the longer of the two lengths.
  static let preambleSize = 12
  /// NumPy's own limit, in characters.
  static let maximumLength = 10_000

  private(set) var dtype: DType
  private(set) var isBigEndian: Bool
  private(set) var isFortranOrder: Bool
  private(set) var shape: Shape
  /// Bytes of the elements.
  private(set) var byteCount: Int
  /// Position of the first element from the start of the array.
  let dataOffset: Int

  /// The bytes from the start of an array that its header takes, from its first `preambleSize` bytes.
  ///
  /// - Parameters:
  ///   - preamble: As many of them as the array has.
  ///   - size: Bytes of the whole array.
  /// - Returns: Where the elements begin.
  /// - Throws: `npy.magic`, `npy.version` or `npy.header-length`.
  static func size(from preamble: [UInt8], of size: UInt64) throws(SurgeryError) -> Int {
    guard preamble.starts(with: magic) else {
      throw SurgeryError(
        .data, "npy.magic", "this is no npy array: it does not begin with \\x93NUMPY")
    }
    guard preamble.count >= 10 else {
      throw SurgeryError(
        .data, "npy.short", "the npy array is truncated in its header",
        expected: "at least 10 bytes", found: "\(size, counting: "byte")")
    }
    let (major, minor) = (preamble[6], preamble[7])
    guard 1...3 ~= major, minor == 0 else {
      throw SurgeryError(
        .data, "npy.version", "an npy version that does not exist",
        expected: "version 1.0, 2.0 or 3.0", found: "version \(major).\(minor)")
    }
    let start = major == 1 ? 10 : 12
    guard preamble.count >= start else {
      throw SurgeryError(
        .data, "npy.short", "the npy array is truncated in its header",
        expected: "at least \(start) bytes", found: "\(size, counting: "byte")")
    }
    let length = preamble[8..<start].reversed().reduce(0) { $0 << 8 | Int($1) }
    guard UInt64(length) <= size - UInt64(start) else {
      throw SurgeryError(
        .data, "npy.header-length", "the header length exceeds the size of the npy array",
        expected: "at most \(size - UInt64(start), counting: "byte")",
        found: "\(length, counting: "byte")", offset: 8)
    }
    // UTF-8 takes up to four bytes a character.
    guard length <= maximumLength * (major == 3 ? 4 : 1) else { throw tooLong(length) }
    return start + length
  }

  private static func tooLong(_ count: Int) -> SurgeryError {
    SurgeryError(
      .data, "npy.header-too-large", "the npy header is longer than NumPy reads",
      expected: "at most \(maximumLength) characters", found: "\(count)", offset: 8)
  }

  /// Parses a header.
  ///
  /// - Parameters:
  ///   - bytes: The array's first bytes, as many as `size(from:of:)` says.
  ///   - size: Bytes of the whole array, which the elements must fill exactly.
  ///   - recorded: The true dtype that the archive records.
  /// - Throws: The `npy.…` errors.
  init(_ bytes: [UInt8], of size: UInt64, recorded: DType? = nil) throws(SurgeryError) {
    let start = bytes[6] == 1 ? 10 : 12
    let text: [Unicode.Scalar]
    if bytes[6] == 3 {
      guard let string = String(validating: bytes[start...], as: UTF8.self) else {
        throw SurgeryError(.data, "npy.utf8", "the npy header is not UTF-8", offset: 12)
      }
      text = Array(string.unicodeScalars)
      guard text.count <= Self.maximumLength else { throw Self.tooLong(text.count) }
    } else {
      text = bytes[start...].map { Unicode.Scalar($0) }
    }
    let literal: NumPyLiteral
    do throws(SurgeryError) {
      literal = try NumPyLiteral(parsing: text, allowsLongs: bytes[6] < 3)
    } catch {
      var error = error
      error.offset = error.offset.map { $0 + UInt64(start) }
      throw error
    }
    guard case .dictionary(let members) = literal else {
      throw Self.failure("it is not a dictionary")
    }
    func member(_ key: String) throws(SurgeryError) -> NumPyLiteral {
      guard let member = members.first(where: { $0.key == key }) else {
        throw Self.failure("it has no '\(key)'")
      }
      return member.value
    }
    let descr = try member("descr")
    let order = try member("fortran_order")
    let dimensions = try member("shape")
    guard members.count == 3 else {
      throw Self.failure("it has keys besides descr, fortran_order and shape")
    }
    guard case .bool(let isFortranOrder) = order else {
      throw Self.failure("fortran_order is neither True nor False")
    }
    let type = try NumPyDType(descr, recorded: recorded)
    self.isFortranOrder = isFortranOrder
    dtype = type.dtype
    isBigEndian = type.isBigEndian
    shape = try Self.shape(dimensions)
    dataOffset = bytes.count
    guard let byteCount = dtype.byteCount(ofElements: shape.elementCount) else {
      throw Self.overflow("\(shape) of \(dtype)")
    }
    self.byteCount = byteCount
    let available = size - UInt64(bytes.count)
    guard UInt64(byteCount) == available else {
      let isShort = UInt64(byteCount) > available
      throw SurgeryError(
        .data, isShort ? "npy.truncated" : "npy.trailing",
        isShort
          ? "the data is truncated: shape \(shape) of \(dtype) needs more"
          : "trailing bytes after the data of shape \(shape) of \(dtype)",
        expected: "\(byteCount, counting: "byte")", found: "\(available, counting: "byte")",
        offset: UInt64(bytes.count))
    }
  }

  private static func failure(_ what: String) -> SurgeryError {
    SurgeryError(.data, "npy.header", "npy header: " + what)
  }

  private static func overflow(_ found: String) -> SurgeryError {
    SurgeryError(
      .data, "npy.overflow", "the product of the shape overflows: it is 2^63 or more", found: found)
  }

  private static func shape(_ literal: NumPyLiteral) throws(SurgeryError) -> Shape {
    guard case .tuple(let parts) = literal else {
      throw SurgeryError(.data, "npy.shape", "npy header: the shape is not a tuple of integers")
    }
    var dimensions: [Int] = []
    for part in parts {
      guard case .integer(let value) = part else {
        throw SurgeryError(.data, "npy.shape", "npy header: the shape is not a tuple of integers")
      }
      guard let value else { throw overflow("a dimension of 2^63 or more") }
      guard value >= 0 else {
        throw SurgeryError(
          .data, "npy.shape", "npy header: the shape has a negative dimension", found: "\(value)")
      }
      dimensions.append(value)
    }
    guard let shape = Shape(dimensions) else {
      throw overflow(dimensions.prefix(8).map(String.init).joined(separator: " x "))
    }
    return shape
  }
}
