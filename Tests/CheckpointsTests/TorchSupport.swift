import Tensors

@testable import Checkpoints

/// Opcodes of pickles, put together by hand.
enum Pickle {
  static let empty: [UInt8] = [UInt8(ascii: ")")]
  static let reduce: [UInt8] = [UInt8(ascii: "R")]
  static let orderedDict = global("collections", "OrderedDict")

  static func program(_ value: [UInt8]) -> [UInt8] { [0x80, 2] + value + [UInt8(ascii: ".")] }

  static func text(_ text: String) -> [UInt8] {
    [UInt8(ascii: "X")] + bytes(UInt32(text.utf8.count)) + Array(text.utf8)
  }

  static func integer(_ value: Int) -> [UInt8] { [0x8A, 8] + bytes(value) }

  static func global(_ module: String, _ name: String) -> [UInt8] {
    Array("c\(module)\n\(name)\n".utf8)
  }

  static func tuple(_ values: [[UInt8]]) -> [UInt8] {
    [UInt8(ascii: "(")] + values.joined() + [UInt8(ascii: "t")]
  }

  static func tuple(_ values: [Int]) -> [UInt8] { tuple(values.map { integer($0) }) }

  static func list(_ values: [[UInt8]]) -> [UInt8] {
    Array("](".utf8) + values.joined() + [UInt8(ascii: "e")]
  }

  static func dictionary(_ items: [(String, [UInt8])]) -> [UInt8] {
    Array("}(".utf8) + items.flatMap { text($0.0) + $0.1 } + [UInt8(ascii: "u")]
  }

  static func storage(
    _ type: String = "FloatStorage", key: String = "0", count: Int = 4
  ) -> [UInt8] {
    tuple([
      text("storage"), global("torch", type), text(key), text("cpu"), integer(count),
    ]) + [UInt8(ascii: "Q")]
  }

  static func tensor(
    _ storage: [UInt8] = storage(), offset: Int = 0, size: [Int] = [2, 2], stride: [Int] = [2, 1]
  ) -> [UInt8] {
    call(
      "_rebuild_tensor_v2",
      [storage, integer(offset), tuple(size), tuple(stride), [0x89], orderedDict + empty + reduce])
  }

  static func call(_ function: String, _ arguments: [[UInt8]]) -> [UInt8] {
    global("torch._utils", function) + tuple(arguments) + reduce
  }
}

/// A checkpoint as torch.save lays it out, around any pickle.
func torchArchive(
  _ pickle: [UInt8], storages: [String: [UInt8]] = ["0": Array(0..<16)],
  others: [(String, [UInt8])] = []
) -> ZipBuilder {
  var members = [ZipBuilder.Member("archive/data.pkl", pickle)]
  for (key, bytes) in storages.sorted(by: { $0.key < $1.key }) {
    members.append(.init("archive/data/\(key)", bytes))
  }
  return ZipBuilder(members + others.map { .init($0.0, $0.1) })
}
