import Tensors

@testable import Checkpoints

/// A GGUF file put together by hand, with every number open to lies.
struct GGUFBuilder {
  /// Magic and version.
  var head = Array("GGUF".utf8) + bytes(UInt32(3))
  var keys: [[UInt8]] = []
  var tensors: [[UInt8]] = []
  var tensorCount: UInt64?
  var keyCount: UInt64?
  var alignment = 32
  var data: [UInt8] = []

  static func text(_ text: String) -> [UInt8] { bytes(UInt64(text.utf8.count)) + Array(text.utf8) }

  static func key(_ name: String, type: UInt32, _ value: [UInt8]) -> [UInt8] {
    text(name) + bytes(type) + value
  }

  static func tensor(
    _ name: String, _ dimensions: [UInt64], type: UInt32 = 0, offset: UInt64 = 0,
    rank: UInt32? = nil
  ) -> [UInt8] {
    text(name) + bytes(rank ?? UInt32(dimensions.count)) + dimensions.flatMap { bytes($0) }
      + bytes(type) + bytes(offset)
  }

  /// The file's bytes.
  var file: [UInt8] {
    var file = head + bytes(tensorCount ?? UInt64(tensors.count))
    file += bytes(keyCount ?? UInt64(keys.count)) + keys.joined() + tensors.joined()
    while file.count % alignment != 0 { file.append(0) }
    return file + data
  }

  /// A builder with one tensor of two floats and whatever `change` makes of it.
  static func with(_ change: (inout Self) -> Void) -> [UInt8] {
    var builder = Self()
    builder.tensors = [tensor("a", [2])]
    builder.data = [UInt8](repeating: 1, count: 8)
    change(&builder)
    return builder.file
  }
}
