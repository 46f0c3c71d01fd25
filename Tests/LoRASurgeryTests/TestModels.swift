import Checkpoints
import Foundation
import LoRASurgery
import Tensors

/// A folder that goes with the last reference.
final class TemporaryFolder: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/lora-surgery-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func callAsFunction(_ name: String) -> String { path + "/" + name }

  /// Names in the folder, hidden ones too.
  var contents: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }
}

/// A generator whose numbers depend on the seed alone (SplitMix64; Steele, Lea & Flood 2014).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }

  mutating func values(_ count: Int, scale: Double = 1) -> [Double] {
    (0..<count).map { _ in
      // The sum of four uniform numbers is normal enough for weights.
      (0..<4).reduce(0) { sum, _ in sum + Double.random(in: -1...1, using: &self) } * scale
    }
  }
}

/// A tensor with values to be written to a test file.
struct TestTensor: Sendable {
  var name: TensorName
  var shape: [Int]
  var values: [Double]
  var dtype = DType.f32
}

enum TestModels {
  /// Writes a checkpoint at a path, file or folder.
  static func write(
    _ tensors: [TestTensor], to path: String, config: String? = nil
  ) throws {
    let isFile = FileFormat(extensionOf: path) != nil
    let infos = try tensors.map { tensor in
      guard let shape = Shape(tensor.shape),
        let info = TensorInfo(name: tensor.name, dtype: tensor.dtype, shape: shape)
      else { throw SurgeryError(.bug, "test", "no such tensor") }
      return info
    }
    let plan = CheckpointPlan(
      path: path, kind: isFile ? .file : .folder,
      files: [
        TensorFilePlan(
          relativePath: "model.safetensors", format: .safetensors, tensors: infos, metadata: [:])
      ],
      extras: config.map { [.init(relativePath: "config.json", content: .bytes(Array($0.utf8)))] }
        ?? [])
    let writer = try CheckpointWriter(
      plan, replacing: true, inputs: [], interruption: Interruption())
    for (index, tensor) in tensors.enumerated() {
      var bytes = [UInt8](repeating: 0, count: infos[index].byteCount)
      var span = bytes.mutableSpan
      var raw = span.mutableBytes
      _ = ElementConversion.narrow(tensor.values.span, to: tensor.dtype, into: &raw)
      try writer.write(
        bytes.span.bytes, to: PlannedTensor(file: 0, tensor: index), at: 0, through: WriteStage())
    }
    try writer.commit()
  }

  /// The values of a tensor of a checkpoint.
  static func values(_ name: TensorName, in path: String) throws -> [Double] {
    guard let tensor = try Checkpoint(opening: path)[name] else {
      throw SurgeryError(.data, "test", "no tensor \(name)")
    }
    var values = [Double](repeating: 0, count: tensor.info.shape.elementCount)
    var span = values.mutableSpan
    let bytes = try tensor.bytes()
    ElementConversion.widen(bytes.span.bytes, from: tensor.info.dtype, into: &span)
    return values
  }

  /// Writes a pair of rank 1 to `base` and `tuned` of a folder, and to `adapter` what is extracted from it.
  static func writePairAndAdapter(in folder: TemporaryFolder) throws {
    let (base, tuned) = pair(rank: 1)
    try write(base, to: folder("base"))
    try write(tuned, to: folder("tuned"))
    _ = try ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder("adapter"),
      ranks: RankOptions(rank: 1)
    ).run()
  }

  /// A base and a fine-tune of it: a matrix with a delta of this rank, a changed norm and an unchanged matrix.
  static func pair(
    rank: Int, seed: UInt64 = 1, dtype: DType = .f32
  ) -> (base: [TestTensor], tuned: [TestTensor]) {
    var random = SeededGenerator(seed)
    let (rows, columns) = (24, 40)
    let weight = random.values(rows * columns, scale: 0.1)
    let (up, down) = (random.values(rows * rank), random.values(rank * columns))
    var changed = weight
    for row in 0..<rows {
      for column in 0..<columns {
        for k in 0..<rank {
          changed[row * columns + column] += up[row * rank + k] * down[k * columns + column]
        }
      }
    }
    let still = random.values(64)
    let base = [
      TestTensor(
        name: "layer.0.proj.weight", shape: [rows, columns], values: weight, dtype: dtype),
      TestTensor(
        name: "layer.0.norm.weight", shape: [columns], values: random.values(columns), dtype: dtype),
      TestTensor(name: "head.weight", shape: [8, 8], values: still, dtype: dtype),
    ]
    var tuned = base
    tuned[0].values = changed
    tuned[1].values = tuned[1].values.map { $0 + 0.5 }
    return (base, tuned)
  }
}

/// The error that `body` throws, or `nil`.
func surgeryError(_ body: () throws -> Void) -> SurgeryError? {
  do { try body() } catch { return error as? SurgeryError }
  return nil
}
