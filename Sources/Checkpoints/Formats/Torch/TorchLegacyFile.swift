import Tensors

/// The layout of torch.save before 1.6: five pickles (magic number, version, system, the object, the storages' keys), then for
/// each key a count of elements and the elements (`torch/serialization.py`, `_legacy_save`).
struct TorchLegacyFile {
  /// The pickle of 0x1950a86a20f9469cfc6c after its PROTO opcode.
  private static let magic: [UInt8] = [
    0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E,
  ]
  private static let version = 1001

  private let file: InputFile
  private let value: PickleValue
  private let heap: PickleHeap
  private let isBigEndian: Bool
  /// Where each storage lies: position of its first element and number of elements.
  private var storages: [String: (offset: UInt64, count: UInt64)] = [:]
  private let pickleSize: Int

  /// Reads the pickles and finds the storages.
  ///
  /// - Throws: The `pickle.…` errors, and `torch.…` where the file is something else than its pickles say.
  init(_ file: InputFile, head: [UInt8]) throws(SurgeryError) {
    self.file = file
    let body = head.dropFirst(2)
    guard body.starts(with: Self.magic) else {
      if head.count > 12, head[1] >= 4, head[11...].starts(with: Self.magic) {
        throw SurgeryError(
          .unsupported, "pickle.protocol",
          "the pickle was written with protocol 4 or 5 (PROTO \(head[1])), which is not read",
          hint: "save it with torch.save and its default protocol")
      }
      throw SurgeryError(
        .data, "torch.unknown",
        "this is a bare pickle, not a checkpoint of torch.save; nothing was executed", offset: 0)
    }
    var input = PickleInput(file, at: 0)
    _ = try input.take(2 + Self.magic.count)
    guard case .integer(Self.version) = try Self.run(&input).value else {
      throw SurgeryError(
        .unsupported, "torch.version", "a version of the legacy layout that is not read",
        expected: "\(Self.version)")
    }
    isBigEndian = try Self.byteOrder(try Self.run(&input))
    let start = input.position
    (value, heap) = try Self.run(&input)
    pickleSize = input.position - start
    let keys = try Self.keys(try Self.run(&input))
    try findStorages(keys, from: UInt64(input.position))
  }

  /// Runs the next pickle of the file; offsets are those of the file already.
  private static func run(
    _ input: inout PickleInput
  ) throws(SurgeryError) -> (value: PickleValue, heap: PickleHeap) {
    var machine = PickleMachine(input)
    let value = try machine.run()
    input = machine.input
    return (value, machine.heap)
  }

  private static func byteOrder(
    _ system: (value: PickleValue, heap: PickleHeap)
  ) throws(SurgeryError) -> Bool {
    if case .dictionary(let index) = system.value,
      let item = system.heap.dictionaries[index].items.first(where: {
        system.heap.text($0.key) == "little_endian"
      }), case .bool(let isLittleEndian) = item.value
    {
      return !isLittleEndian
    }
    throw SurgeryError(
      .data, "torch.byteorder", "the legacy checkpoint does not state its byte order")
  }

  private static func keys(
    _ list: (value: PickleValue, heap: PickleHeap)
  ) throws(SurgeryError) -> [String] {
    guard case .list(let index) = list.value else {
      throw SurgeryError(.data, "torch.keys", "the keys of the storages are not a list")
    }
    var keys: [String] = []
    for value in list.heap.lists[index] {
      guard let key = list.heap.text(value) else {
        throw SurgeryError(.data, "torch.keys", "the key of a storage is not a string")
      }
      keys.append(key)
    }
    return keys
  }

  private mutating func findStorages(
    _ keys: [String], from start: UInt64
  ) throws(SurgeryError) {
    var units: [String: Int?] = [:]
    for storage in heap.storages { units[storage.key] = .some(storage.type.storageUnit) }
    var position = start
    for key in keys {
      guard let known = units[key], storages[key] == nil else {
        throw SurgeryError(
          .data, "torch.keys",
          "the storage \"\(DisplayText.escaped(key))\" is listed twice or unused")
      }
      guard let unit = known else {
        throw SurgeryError(
          .unsupported, "torch.dtype", "storages of this dtype are not read",
          found: "storage \"\(DisplayText.escaped(key))\"")
      }
      guard file.size - position >= 8 else { throw truncated(key, at: position) }
      let count = try file.bytes(at: position, count: 8).reversed()
        .reduce(0) { $0 << 8 | UInt64($1) }
      position += 8
      let (bytes, overflow) = count.multipliedReportingOverflow(by: UInt64(unit))
      guard !overflow, bytes <= file.size - position else { throw truncated(key, at: position) }
      storages[key] = (position, bytes)
      position += bytes
    }
    guard position == file.size else {
      throw SurgeryError(
        .data, "torch.trailing", "trailing bytes after the last storage",
        expected: "\(position, counting: "byte")", found: "\(file.size, counting: "byte")",
        offset: position)
    }
  }

  private func truncated(_ key: String, at position: UInt64) -> SurgeryError {
    SurgeryError(
      .data, "torch.truncated",
      "the storage \"\(DisplayText.escaped(key))\" ends beyond the file, which is truncated",
      offset: position)
  }

  /// The tensors of the checkpoint.
  func tensorFile() throws(SurgeryError) -> TensorFile {
    let flat = try TorchFlattening(
      value, heap: heap, pickleSize: pickleSize, soleName: TensorFile.soleTensorName(in: file))
    var builder = TorchTensors(heap, in: file, isBigEndian: isBigEndian, find: storage)
    let (tensors, warnings) = try builder.build(flat)
    return TensorFile(
      file: file, format: .torch, tensors: tensors, metadata: flat.metadata,
      warnings: flat.warnings + warnings)
  }

  private func storage(_ storage: PickleHeap.Storage) throws(SurgeryError) -> TorchStorageBytes {
    guard let (offset, count) = storages[storage.key] else {
      throw SurgeryError(
        .data, "torch.no-storage",
        "the file has no storage \"\(DisplayText.escaped(storage.key))\"")
    }
    let source = PlainSource(file: file, offset: offset)
    return TorchStorageBytes(whole: source, parts: source, byteCount: count, isCompressed: false)
  }
}
