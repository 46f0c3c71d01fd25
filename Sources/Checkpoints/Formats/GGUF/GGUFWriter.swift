import Tensors

/// Writes a GGUF file of version 3.
///
/// Tensors lie in the order of the plan, each padded to the alignment, which is 32 bytes unless the metadata's
/// `general.alignment` says otherwise. Metadata stands in the order of the typed keys, then the others sorted. The same plan
/// gives the same bytes.
struct GGUFWriter: TensorFileWriter {
  private let file: OutputFile
  /// Position in the file of each tensor of the plan.
  private let offsets: [UInt64]

  let isSequential = false

  init(
    _ plan: TensorFilePlan, _ makeFile: (UInt64?) throws(SurgeryError) -> OutputFile
  ) throws(SurgeryError) {
    let metadata = try Self.metadata(of: plan)
    var unit = UInt64(GGUFHeader.defaultAlignment)
    if case .u32(let alignment)? = metadata["general.alignment"] { unit = UInt64(alignment) }
    var header = GGUFEncoder()
    header.append(Array("GGUF".utf8))
    header.append(UInt32(3))
    header.append(UInt64(plan.tensors.count))
    header.append(UInt64(metadata.keys.count))
    for key in metadata.keys {
      guard let value = metadata[key] else { continue }
      header.append(key)
      header.append(typed: value)
    }
    var relative: [UInt64] = []
    var position: UInt64 = 0
    var names = Set<TensorName>()
    for info in plan.tensors {
      precondition(names.insert(info.name).inserted, "tensor \(info.name) is planned twice")
      do throws(SurgeryError) {
        try Self.append(info, at: position, to: &header)
      } catch {
        throw error.inTensor(info.name)
      }
      relative.append(position)
      position = (position + UInt64(info.byteCount) + unit - 1) / unit * unit
    }
    let dataStart = (UInt64(header.bytes.count) + unit - 1) / unit * unit
    guard dataStart <= GGUFCursor.maximumHeaderLength else {
      throw SurgeryError(
        .unsupported, "gguf.header-too-large", "the header would be too large",
        expected: "at most \(GGUFCursor.maximumHeaderLength) bytes",
        found: "\(dataStart, counting: "byte")")
    }
    offsets = relative.map { dataStart + $0 }
    file = try makeFile(dataStart + position)
    try file.write(header.bytes, at: 0)
  }

  /// The plan's metadata with the types that are known, checked by the reader's rules.
  private static func metadata(of plan: TensorFilePlan) throws(SurgeryError) -> GGUFMetadata {
    var metadata = GGUFMetadata()
    for key in plan.ggufMetadata.keys {
      if let value = plan.ggufMetadata[key], plan.metadata[key] == value.text {
        metadata[key] = value
      }
    }
    for (key, text) in plan.metadata.sorted(by: { TensorName($0.key) < TensorName($1.key) })
    where metadata[key] == nil {
      metadata[key] = .string(text)
    }
    for key in metadata.keys
    where key.isEmpty || key.utf8.count > 65535 || key.utf8.contains(0) {
      throw SurgeryError(
        .unsupported, "gguf.key", "GGUF cannot hold this metadata key",
        expected: "1 to 65535 bytes without NUL", found: "\"\(DisplayText.escaped(key))\"")
    }
    if let alignment = metadata["general.alignment"] {
      guard let value = UInt32(alignment.text), value.nonzeroBitCount == 1, value <= 1 << 20 else {
        throw SurgeryError(
          .unsupported, "gguf.alignment", "GGUF cannot be written with this general.alignment",
          expected: "a power of two up to 1048576", found: alignment.text)
      }
      metadata["general.alignment"] = .u32(value)
    }
    return metadata
  }

  private static func append(
    _ info: TensorInfo, at position: UInt64, to header: inout GGUFEncoder
  ) throws(SurgeryError) {
    guard info.name.text.utf8.count <= GGUFHeader.maximumNameLength,
      !info.name.text.utf8.contains(0)
    else {
      throw SurgeryError(
        .unsupported, "gguf.name", "GGUF cannot hold a tensor with this name",
        expected: "at most \(GGUFHeader.maximumNameLength) bytes without NUL",
        found: "\(info.name.text.utf8.count, counting: "byte")", hint: "--rename shortens it")
    }
    guard info.shape.rank <= Int(GGUFHeader.maximumDimensions) else {
      throw SurgeryError(
        .unsupported, "gguf.dimensions", "GGUF cannot hold a tensor with so many dimensions",
        expected: "at most \(GGUFHeader.maximumDimensions)", found: "\(info.shape.rank)")
    }
    guard let code = GGUFTensorType.code(of: info.dtype) else {
      throw SurgeryError(
        .unsupported, "gguf.dtype", "GGUF has no such dtype", found: info.dtype.name,
        hint: "--dtype f32 widens it")
    }
    header.append(info.name.text)
    header.append(UInt32(info.shape.rank))
    for dimension in info.shape.dimensions.reversed() { header.append(UInt64(dimension)) }
    header.append(code)
    header.append(position)
  }

  func plainOffset(of tensor: Int) -> UInt64? { offsets[tensor] }

  func write(
    _ bytes: RawSpan, tensor: Int, at offset: Int, through stage: WriteStage
  ) throws(SurgeryError) {
    try stage.write(bytes, to: file, at: offsets[tensor] + UInt64(offset))
  }

  func finish() {}
}
