import Tensors

/// The bytes of one storage.
struct TorchStorageBytes {
  /// Delivers the storage from front to back.
  var whole: any TensorSource
  /// Delivers parts of it.
  var parts: any TensorSource
  var byteCount: UInt64
  /// Whether parts can only be reached by decoding what lies before them.
  var isCompressed: Bool
}

/// Turns the tensors that a pickle describes into sources over their storages, every number checked.
struct TorchTensors {
  /// torch itself has no tensors of more dimensions.
  private static let maximumRank = 64
  /// What views may expand to, beyond the size of the file.
  private static let smallestExpansionLimit: UInt64 = 1 << 30

  private let heap: PickleHeap
  private let file: InputFile
  private let isBigEndian: Bool
  private let find: (PickleHeap.Storage) throws(SurgeryError) -> TorchStorageBytes
  private var storages: [String: TorchStorageBytes] = [:]
  private var expanded: UInt64 = 0

  /// Prepares to build tensors.
  ///
  /// - Parameters:
  ///   - heap: The parts of the pickle.
  ///   - file: The checkpoint.
  ///   - isBigEndian: The byte order of all storages.
  ///   - find: Finds the bytes of a storage by its key.
  init(
    _ heap: PickleHeap, in file: InputFile, isBigEndian: Bool,
    find: @escaping (PickleHeap.Storage) throws(SurgeryError) -> TorchStorageBytes
  ) {
    self.heap = heap
    self.file = file
    self.isBigEndian = isBigEndian
    self.find = find
  }

  /// Builds all tensors of a checkpoint.
  ///
  /// - Returns: The tensors, and a warning where several share a storage.
  /// - Throws: `torch.…` with the tensor.
  mutating func build(
    _ flat: TorchFlattening
  ) throws(SurgeryError) -> (tensors: [StoredTensor], warnings: [String]) {
    var tensors: [StoredTensor] = []
    var firstOfStorage: [String: TensorName] = [:]
    var shared: [String] = []
    for (name, index) in flat.tensors {
      do throws(SurgeryError) {
        tensors.append(try build(name, heap.tensors[index]))
      } catch {
        throw error.inTensor(name)
      }
      let key = heap.storages[heap.tensors[index].storage].key
      if let first = firstOfStorage[key] {
        shared.append(
          "\(DisplayText.escaped(name.text)) with \(DisplayText.escaped(first.text))")
      } else {
        firstOfStorage[key] = name
      }
    }
    guard !shared.isEmpty else { return (tensors, []) }
    return (
      tensors,
      [
        "\(shared.count, counting: "tensor") in the storage of another (tied weights or views): "
          + shared.listed(limit: 3)
      ]
    )
  }

  private mutating func build(
    _ name: TensorName, _ tensor: PickleHeap.Tensor
  ) throws(SurgeryError) -> StoredTensor {
    let storage = heap.storages[tensor.storage]
    let type = tensor.type ?? storage.type
    guard type != .untyped else {
      throw SurgeryError(.data, "torch.dtype", "the tensor's dtype is not stated")
    }
    guard let dtype = type.dtype, let elementSize = dtype.bytesPerElement else {
      throw SurgeryError(
        .unsupported, "torch.dtype", "tensors of this dtype are not read", found: type.name)
    }
    guard !tensor.hasExtraState else {
      throw SurgeryError(
        .unsupported, "torch.state", "conjugated and negated views are not read",
        hint: "save the tensor's resolve_conj().resolve_neg()")
    }
    let bytes = try bytes(of: storage)
    let counts = try integers(tensor.size, "size")
    let strides = try integers(tensor.stride, "stride")
    guard let shape = Shape(counts), let info = TensorInfo(name: name, dtype: dtype, shape: shape)
    else {
      throw SurgeryError(
        .data, "torch.overflow", "the product of the sizes overflows",
        found: counts.prefix(8).map(String.init).joined(separator: " x "))
    }
    try checkView(
      tensor, counts, strides, available: Int(clamping: bytes.byteCount / UInt64(elementSize)),
      isEmpty: shape.elementCount == 0)
    try checkExpansion(info)
    return StoredTensor(
      info: info, source: try source(info, tensor, counts, strides, bytes, elementSize))
  }

  private func source(
    _ info: TensorInfo, _ tensor: PickleHeap.Tensor, _ counts: [Int], _ strides: [Int],
    _ bytes: TorchStorageBytes, _ elementSize: Int
  ) throws(SurgeryError) -> any TensorSource {
    if info.byteCount == 0 { return bytes.whole }
    let layout = StridedLayout(
      counts: counts, strides: strides, offset: tensor.offset, elementSize: elementSize)
    var source: any TensorSource
    if layout.isContiguous, tensor.offset == 0, UInt64(info.byteCount) == bytes.byteCount {
      source = bytes.whole
    } else {
      guard !bytes.isCompressed || !layout.mayOverlap else {
        throw SurgeryError(
          .unsupported, "torch.compressed-view",
          "expanded and overlapping views of compressed storages are not read",
          hint: "torch.save it again")
      }
      source = StridedSource(bytes.parts, layout: layout)
    }
    if isBigEndian, info.dtype.byteOrderUnit > 1 {
      source = ByteSwappedSource(source, unit: info.dtype.byteOrderUnit)
    }
    return source
  }

  /// The bytes of a storage, which must be as many as its elements take.
  private mutating func bytes(
    of storage: PickleHeap.Storage
  ) throws(SurgeryError) -> TorchStorageBytes {
    guard let unit = storage.type.storageUnit else {
      throw SurgeryError(
        .unsupported, "torch.dtype", "storages of this dtype are not read",
        found: storage.type.name)
    }
    guard !storage.isView else {
      throw SurgeryError(
        .unsupported, "torch.storage-view", "views of storages (torch before 0.4) are not read",
        hint: "torch.save it with a newer torch")
    }
    let (needed, overflow) = storage.elementCount.multipliedReportingOverflow(by: unit)
    let bytes: TorchStorageBytes
    if let known = storages[storage.key] {
      bytes = known
    } else {
      bytes = try find(storage)
      storages[storage.key] = bytes
    }
    guard !overflow, UInt64(needed) == bytes.byteCount else {
      throw SurgeryError(
        .data, "torch.storage-size",
        "the storage \"\(DisplayText.escaped(storage.key))\" has another size than the pickle says",
        expected: "\(storage.elementCount) elements of \(unit) bytes",
        found: "\(bytes.byteCount, counting: "byte")")
    }
    return bytes
  }

  private func integers(_ tuple: Int, _ what: String) throws(SurgeryError) -> [Int] {
    let values = heap.tuple(tuple)
    guard values.count <= Self.maximumRank else {
      throw SurgeryError(
        .data, "torch.rank", "the tensor has more dimensions than torch knows",
        expected: "at most \(Self.maximumRank)", found: "\(values.count)")
    }
    var integers: [Int] = []
    for value in values {
      guard case .integer(let integer) = value else {
        throw SurgeryError(
          .data, "torch.\(what)", "the tensor's \(what) is not a tuple of integers",
          found: value.kind)
      }
      guard integer >= 0 else {
        throw SurgeryError(
          .data, "torch.\(what)", "the tensor's \(what) has a negative number", found: "\(integer)")
      }
      integers.append(integer)
    }
    return integers
  }

  /// Checks that the last element of the view lies in the storage.
  private func checkView(
    _ tensor: PickleHeap.Tensor, _ counts: [Int], _ strides: [Int], available: Int, isEmpty: Bool
  ) throws(SurgeryError) {
    guard counts.count == strides.count else {
      throw SurgeryError(
        .data, "torch.stride", "the tensor's size and stride differ in length",
        expected: "\(counts.count) strides", found: "\(strides.count)")
    }
    var last = tensor.offset
    var overflows = last < 0
    if !isEmpty {
      for (count, stride) in zip(counts, strides) {
        let (reach, overflow) = (count - 1).multipliedReportingOverflow(by: stride)
        let (next, nextOverflow) = last.addingReportingOverflow(reach)
        overflows = overflows || overflow || nextOverflow
        last = next
      }
    }
    guard !overflows, isEmpty ? last <= available : last < available else {
      throw SurgeryError(
        .data, "torch.view", "the tensor reaches beyond its storage",
        expected: "at most \(available, counting: "element")",
        found: overflows ? "an offset or stride out of range" : "element \(last)")
    }
  }

  /// A view of stride 0 shows one element any number of times; made contiguous, it would fill the disk.
  private mutating func checkExpansion(_ info: TensorInfo) throws(SurgeryError) {
    let (total, overflow) = expanded.addingReportingOverflow(UInt64(info.byteCount))
    let (scaled, isVast) = file.size.multipliedReportingOverflow(by: 64)
    let limit = isVast ? .max : max(scaled, Self.smallestExpansionLimit)
    guard !overflow, total <= limit else {
      throw SurgeryError(
        .data, "torch.expanded", "the tensors expand to far more bytes than the file has",
        expected: "at most \(limit) bytes", found: "\(overflow ? .max : total, counting: "byte")")
    }
    expanded = total
  }
}
