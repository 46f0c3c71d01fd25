public import Checkpoints
public import Tensors

/// What tells a base model from another: a few of its tensors, with the checksum of the first bytes of each.
///
/// Training changes every tensor, so a few tell; a fingerprint of the whole would cost reading the whole. A base stored in
/// another dtype is compared by names and shapes alone.
public struct BaseFingerprint: Sendable, Hashable {
  /// One tensor of the base.
  public struct Sample: Sendable, Codable, Hashable {
    var name: TensorName
    var dtype: DType
    var shape: Shape
    /// The CRC-32 of the first `size` bytes.
    var crc: UInt32

    /// Bytes of each tensor that are looked at, at most.
    static let size = 4096
  }

  /// Tensors that are looked at, at most.
  static let maximumSamples = 8

  let samples: [Sample]

  /// Looks at some of the tensors that an adapter changes.
  ///
  /// - Parameters:
  ///   - base: The model.
  ///   - names: The tensors to choose from; those that the base lacks are left out.
  /// - Throws: What reading throws.
  /// - Complexity: 32 KiB are read, whatever the size of the model.
  public init(of base: Checkpoint, tensors names: [TensorName]) throws(SurgeryError) {
    var samples: [Sample] = []
    for tensor in Self.chosen(from: names.compactMap { base[$0] }) {
      samples.append(try Sample(of: tensor))
    }
    self.samples = samples
  }

  /// Chooses some tensors of which all have been looked at.
  ///
  /// - Parameter samples: The tensors that an adapter changes, in the order of the model.
  public init(choosingFrom samples: [Sample]) { self.samples = Self.chosen(from: samples) }

  private static func chosen<Element>(from all: [Element]) -> [Element] {
    let count = min(all.count, maximumSamples)
    return (0..<count).map { all[$0 * all.count / count] }
  }

  /// Fails where a model is not the one that this was made of.
  ///
  /// - Parameters:
  ///   - base: The model.
  ///   - path: The adapter's path, for the message.
  /// - Throws: `adapter.wrong-base` with the first tensor that differs; what reading throws.
  public func check(_ base: Checkpoint, adapter path: String) throws(SurgeryError) {
    for sample in samples {
      guard let tensor = base[sample.name] else {
        throw wrong(path, sample, found: "no such tensor in \(base.path)")
      }
      guard tensor.info.shape == sample.shape else {
        throw wrong(path, sample, found: "\(tensor.info.shape) in \(base.path)")
      }
      guard tensor.info.dtype == sample.dtype else { continue }
      guard try Sample(of: tensor).crc == sample.crc else {
        throw wrong(path, sample, found: "other values in \(base.path)")
      }
    }
  }

  private func wrong(_ path: String, _ sample: Sample, found: String) -> SurgeryError {
    .adapter(
      "wrong-base", "the base is not the one that the adapter was made for", file: path,
      key: sample.name.text, expected: "\(sample.dtype) \(sample.shape)", found: found,
      hint: "give the base that the adapter was made for, or --allow-other-base")
  }

  /// The fingerprint as the header of a compact file has it.
  var json: JSONValue {
    .array(
      samples.map { sample in
        .object([
          .init("crc", .integer(Int(sample.crc))), .init("dtype", .string(sample.dtype.name)),
          .init("name", .string(sample.name.text)),
          .init("shape", .array(sample.shape.dimensions.map { .integer($0) })),
        ])
      })
  }

  init(_ json: JSONValue, decoder: CompactDecoder) throws(SurgeryError) {
    guard let entries = json.elements, entries.count <= 64 else {
      throw decoder.wrong("the fingerprint is no list of at most 64 tensors")
    }
    var samples: [Sample] = []
    for entry in entries {
      let dimensions = (entry["shape"]?.elements ?? []).compactMap(\.integer)
      guard let crc = entry["crc"]?.integer.flatMap({ UInt32(exactly: $0) }),
        let shape = Shape(dimensions),
        let dtype = DType(safetensorsName: try decoder.text(entry, "dtype"))
      else { throw decoder.wrong("the fingerprint has an impossible tensor") }
      samples.append(
        Sample(
          name: TensorName(try decoder.text(entry, "name")), dtype: dtype, shape: shape, crc: crc))
    }
    self.samples = samples
  }
}

extension BaseFingerprint.Sample {
  /// Looks at a tensor.
  ///
  /// - Parameter tensor: A tensor of the base.
  /// - Throws: What reading throws.
  /// - Complexity: 4 KiB are read, whatever the size of the tensor.
  public init(of tensor: StoredTensor) throws(SurgeryError) {
    let bytes = try tensor.bytes(of: 0..<min(tensor.info.byteCount, Self.size))
    self.init(
      name: tensor.name, dtype: tensor.info.dtype, shape: tensor.info.shape, crc: bytes.crc32)
  }
}
