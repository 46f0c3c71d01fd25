import Adapters
import Checkpoints
import Foundation
import Tensors

/// Small files written by hand, for cases that no library would write.
struct TinyFiles {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// A tensor to write: shape and the generator's values, or given ones.
  struct Tensor {
    var shape: [Int]
    var values: [Float]?
    var dtype = "F32"

    init(_ shape: Int..., values: [Float]? = nil, dtype: String = "F32") {
      self.shape = shape
      self.values = values
      self.dtype = dtype
    }

    var bytes: [UInt8] {
      let count = shape.reduce(1, *)
      if dtype != "F32" {
        return [UInt8](
          repeating: 0, count: DType(safetensorsName: dtype)?.byteCount(ofElements: count) ?? count)
      }
      var generator = SeededGenerator(seed: UInt64(count))
      let numbers =
        values ?? (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
      return numbers.flatMap { value in
        (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) }
      }
    }
  }

  /// Writes a safetensors file and returns its path.
  @discardableResult
  func write(
    _ name: String, _ tensors: [String: Tensor], metadata: [String: String] = [:]
  ) throws -> String {
    var members: [JSONValue.Member] = []
    if !metadata.isEmpty {
      members.append(
        .init("__metadata__", .object(metadata.map { .init($0.key, .string($0.value)) })))
    }
    var data: [UInt8] = []
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      let begin = data.count
      data += tensor.bytes
      members.append(
        .init(
          name,
          .object([
            .init("dtype", .string(tensor.dtype)),
            .init("shape", .array(tensor.shape.map { .integer($0) })),
            .init("data_offsets", .array([.integer(begin), .integer(data.count)])),
          ])))
    }
    let header = Array(JSONValue.object(members).text().utf8)
    let length = (0..<8).map { UInt8(truncatingIfNeeded: UInt64(header.count) >> (8 * $0)) }
    let path = folder.path(name)
    try FileManager.default.createDirectory(
      at: URL(fileURLWithPath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(length + header + data).write(to: URL(fileURLWithPath: path))
    return path
  }

  /// Writes a PEFT adapter of modules with factors of a rank, and returns its folder.
  func peft(
    _ tensors: [String: Tensor], config: String? = #"{"peft_type":"LORA","r":2,"lora_alpha":4}"#
  ) throws -> String {
    try write(
      "adapter/adapter_model.safetensors",
      Dictionary(uniqueKeysWithValues: tensors.map { ("base_model.model.\($0.key)", $0.value) }))
    if let config { try folder.write(config, to: "adapter/adapter_config.json") }
    return folder.path("adapter")
  }

  /// The id of the error that opening and resolving throws, or the warnings joined.
  func outcome(
    _ adapter: String, _ base: [String: Tensor], _ options: AdapterOptions = AdapterOptions()
  ) throws -> String {
    let base = try Checkpoint(opening: try write("base.safetensors", base))
    do throws(SurgeryError) {
      let resolved = try Adapter(opening: adapter, options: options)
        .resolved(against: base, options: options)
      return "read: " + resolved.warnings.joined(separator: "; ")
    } catch {
      // Whatever is refused says where.
      return error.file == nil ? "\(error.id) without a file" : error.id
    }
  }
}
