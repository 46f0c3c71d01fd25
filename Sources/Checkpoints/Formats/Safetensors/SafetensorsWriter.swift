import Tensors

/// Writes a safetensors file byte for byte as the reference does.
///
/// Tensors lie by descending dtype in the reference's order, which descends in alignment too, then by name; the header
/// is padded with spaces to a multiple of 8 bytes; metadata is sorted, where the reference leaves its order to chance.
/// The same tensors give the same bytes.
struct SafetensorsWriter: TensorFileWriter {
  private let file: OutputFile
  /// Position in the file of each tensor of the plan.
  private let offsets: [UInt64]

  let isSequential = false

  init(
    _ plan: TensorFilePlan, _ makeFile: (UInt64?) throws(SurgeryError) -> OutputFile
  ) throws(SurgeryError) {
    let layout = try Layout(plan, ContentHashes.reserved(in: plan.metadata))
    offsets = layout.offsets
    file = try makeFile(layout.dataOffset + UInt64(plan.byteCount))
    try file.write(layout.bytes, at: 0)
  }

  /// All that lies before the data, and where the data lie.
  struct Layout {
    /// The length of the header and the header.
    let bytes: [UInt8]
    /// Position in the file of the first byte of data.
    let dataOffset: UInt64
    /// Position in the file of each tensor of the plan.
    let offsets: [UInt64]

    /// Lays out the tensors of a plan with these metadata.
    init(
      _ plan: TensorFilePlan, _ metadata: [String: String], writesEmptyMetadata: Bool = false
    ) throws(SurgeryError) {
      let ranks = plan.tensors.map { ascendingTypes.firstIndex(of: $0.dtype) ?? -1 }
      let order = plan.tensors.indices.sorted { left, right in
        ranks[left] == ranks[right]
          ? plan.tensors[left].name < plan.tensors[right].name : ranks[left] > ranks[right]
      }
      var header = "{"
      if writesEmptyMetadata || !metadata.isEmpty {
        let members = metadata.sorted { TensorName($0.key) < TensorName($1.key) }
        header += "\"__metadata__\":"
        header += JSONValue.object(members.map { .init($0.key, .string($0.value)) }).text()
      }
      var relative = [UInt64](repeating: 0, count: plan.tensors.count)
      var position: UInt64 = 0
      var previous: TensorName?
      for index in order {
        let info = plan.tensors[index]
        guard DType(safetensorsName: info.dtype.name) != nil else {
          throw SurgeryError(
            .unsupported, "st.dtype", "safetensors has no such dtype", tensor: info.name.text,
            found: info.dtype.name, hint: "--dtype f32 widens it")
        }
        precondition(previous != info.name, "tensor \(info.name) is planned twice")
        previous = info.name
        guard info.name.text != "__metadata__" else {
          throw SurgeryError(
            .data, "st.name", "safetensors cannot hold a tensor called __metadata__",
            tensor: info.name.text)
        }
        if header.utf8.count > 1 { header += "," }
        relative[index] = position
        JSONValue.writeString(info.name.text, to: &header)
        header += ":{\"dtype\":\"\(info.dtype)\",\"shape\":["
        header += info.shape.dimensions.map(String.init).joined(separator: ",")
        header += "],\"data_offsets\":[\(position),\(position + UInt64(info.byteCount))]}"
        position += UInt64(info.byteCount)
      }
      header += "}"
      var bytes = Array(header.utf8)
      bytes.append(contentsOf: repeatElement(0x20, count: (8 - bytes.count % 8) % 8))
      guard UInt64(bytes.count) <= SafetensorsHeader.maximumLength else {
        throw SurgeryError(
          .unsupported, "st.header-too-large", "the header would exceed the format's limit",
          expected: "at most \(SafetensorsHeader.maximumLength) bytes",
          found: "\(bytes.count, counting: "byte")",
          hint: "--max-shard-size splits the output")
      }
      let length = UInt64(bytes.count)
      dataOffset = 8 + length
      offsets = relative.map { 8 + length + $0 }
      self.bytes = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + bytes
    }
  }

  /// The order of `enum Dtype` in `safetensors/src/tensor.rs`, by which the reference sorts.
  private static let ascendingTypes: [DType] = [
    .bool, .f4, .f6e2m3, .f6e3m2, .u8, .i8, .f8e5m2, .f8e4m3, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz,
    .i16, .u16, .f16, .bf16, .i32, .u32, .f32, .c64, .f64, .i64, .u64,
  ]

  func plainOffset(of tensor: Int) -> UInt64? { offsets[tensor] }

  func write(
    _ bytes: RawSpan, tensor: Int, at offset: Int, through stage: WriteStage
  ) throws(SurgeryError) {
    try stage.write(bytes, to: file, at: offsets[tensor] + UInt64(offset))
  }

  func finish() {}
}
