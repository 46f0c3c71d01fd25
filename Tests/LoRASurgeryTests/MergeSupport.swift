import Adapters
import Checkpoints
import Foundation
import LoRASurgery
import Tensors

/// A folder of its own for one test, removed with the value.
final class Scratch {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "merge-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }
}

/// A seeded generator: SplitMix64.
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
  mutating func normals(_ count: Int, times scale: Double = 1) -> [Double] {
    (0..<count).map { _ in
      let u = Double.random(in: 1e-12..<1, using: &self)
      let v = Double.random(in: 0..<1, using: &self)
      return scale * (-2 * log(u)).squareRoot() * cos(2 * .pi * v)
    }
  }
}

/// A tensor of a test: stored bytes with their meaning.
struct Stored {
  var name: String
  var dtype: DType
  var shape: [Int]
  var bytes: [UInt8]

  init(_ name: String, _ dtype: DType, _ shape: [Int], _ values: [Double]) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    bytes = Self.narrowed(values, dtype)
  }

  /// A tensor of a type that need not be one of numbers.
  init(_ name: String, _ dtype: DType, _ shape: [Int], bytes: [UInt8]) {
    (self.name, self.dtype, self.shape, self.bytes) = (name, dtype, shape, bytes)
  }

  static func narrowed(_ values: [Double], _ dtype: DType) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: dtype.byteCount(ofElements: values.count) ?? 0)
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    _ = ElementConversion.narrow(values.span, to: dtype, into: &raw)
    return bytes
  }

  var values: [Double] { Self.widened(bytes, dtype, shape.reduce(1, *)) }

  static func widened(_ bytes: [UInt8], _ dtype: DType, _ count: Int) -> [Double] {
    var values = [Double](repeating: 0, count: count)
    var span = values.mutableSpan
    ElementConversion.widen(bytes.span.bytes, from: dtype, into: &span)
    return values
  }
}

enum Files {
  /// Writes a safetensors file by hand.
  static func write(
    _ tensors: [Stored], to path: String, metadata: [String: String] = [:]
  ) throws {
    var header: [String: Any] = [:]
    if !metadata.isEmpty { header["__metadata__"] = metadata }
    var data = Data()
    for tensor in tensors {
      header[tensor.name] = [
        "dtype": tensor.dtype.name, "shape": tensor.shape,
        "data_offsets": [data.count, data.count + tensor.bytes.count],
      ]
      data.append(contentsOf: tensor.bytes)
    }
    var text = try JSONSerialization.data(withJSONObject: header, options: .sortedKeys)
    while text.count % 8 != 0 { text.append(0x20) }
    var file = Data((0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) })
    file.append(text)
    file.append(data)
    try file.write(to: URL(fileURLWithPath: path))
  }

  /// The tensors of a checkpoint.
  static func read(_ path: String) throws -> [String: Stored] {
    var result: [String: Stored] = [:]
    for tensor in try Checkpoint(opening: path).tensors {
      var stored = Stored(tensor.name.text, tensor.info.dtype, tensor.info.shape.dimensions, [])
      stored.bytes = try tensor.bytes()
      result[tensor.name.text] = stored
    }
    return result
  }

  /// Writes a PEFT adapter.
  static func writeAdapter(
    _ tensors: [Stored], to path: String, rank: Int, alpha: Double, config: String = ""
  ) throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try write(tensors, to: path + "/adapter_model.safetensors")
    let text =
      #"{"peft_type": "LORA", "r": \#(rank), "lora_alpha": \#(alpha), "target_modules": ["q"]\#(config)}"#
    try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/adapter_config.json"))
  }
}

/// A small model and an adapter for some of its tensors.
struct Pair {
  let scratch: Scratch
  var tensors: [Stored] = []
  var factors: [(name: String, up: Stored, down: Stored)] = []
  let rank: Int
  let alpha: Double

  var base: String { scratch.file("base.safetensors") }
  var adapter: String { scratch.file("adapter") }
  var merged: String { scratch.file("merged.safetensors") }
  var undo: String { scratch.file("undo") }
  var back: String { scratch.file("back.safetensors") }
  var scale: Double { alpha / Double(rank) }

  init(
    _ dtype: DType, shapes: [[Int]], rank: Int = 3, alpha: Double = 6, delta: Double = 0.02,
    seed: UInt64 = 1, config: String = ""
  ) throws {
    scratch = try Scratch()
    self.rank = rank
    self.alpha = alpha
    var random = Seeded(seed)
    var stored: [Stored] = []
    for (index, shape) in shapes.enumerated() {
      let name = "layers.\(index).q"
      let (rows, columns) = (shape[0], shape[1])
      tensors.append(
        Stored("\(name).weight", dtype, shape, random.normals(rows * columns, times: 0.1)))
      let up = Stored(
        "base_model.model.\(name).lora_B.weight", .f32, [rows, rank],
        random.normals(rows * rank, times: delta))
      let down = Stored(
        "base_model.model.\(name).lora_A.weight", .f32, [rank, columns],
        random.normals(rank * columns))
      factors.append((name, up, down))
      stored += [down, up]
    }
    tensors.append(Stored("norm.weight", dtype, [5], random.normals(5)))
    try Files.write(tensors, to: base)
    try Files.writeAdapter(stored, to: adapter, rank: rank, alpha: alpha, config: config)
  }

  /// The delta of a tensor in float64, times a factor.
  func delta(_ index: Int, transposed: Bool = false) -> [Double] {
    let (up, down) = (factors[index].up.values, factors[index].down.values)
    let (rows, columns) = (factors[index].up.shape[0], factors[index].down.shape[1])
    var result = [Double](repeating: 0, count: rows * columns)
    for row in 0..<rows {
      for column in 0..<columns {
        var sum = 0.0
        for k in 0..<rank { sum += up[row * rank + k] * down[k * columns + column] }
        result[transposed ? column * rows + row : row * columns + column] = scale * sum
      }
    }
    return result
  }

  /// The merged model as float64 gives it, rounded once, with a factor on the delta.
  func reference(_ factor: Double = 1) -> [Stored] {
    tensors.enumerated().map { index, tensor in
      guard index < factors.count else { return tensor }
      let values = zip(tensor.values, delta(index)).map { $0 + factor * $1 }
      return Stored(tensor.name, tensor.dtype, tensor.shape, values)
    }
  }

  func request(_ direction: MergeDirection = .merge) -> MergeRequest {
    direction == .merge
      ? MergeRequest(model: base, adapters: [WeightedAdapter(adapter)], output: merged)
      : MergeRequest(
        .unmerge, model: merged, adapters: [WeightedAdapter(adapter)], output: back)
  }
}

/// Distances of two tensors in units in the last place.
func units(_ first: Stored, _ second: Stored) -> [UInt64] {
  let size = first.bytes.count / max(1, first.shape.reduce(1, *))
  func ordered(_ stored: Stored) -> [Int64] {
    stride(from: 0, to: stored.bytes.count, by: size).map { start in
      let bits = (0..<size).reduce(UInt64(0)) { $0 | UInt64(stored.bytes[start + $1]) << (8 * $1) }
      let sign = UInt64(1) << (8 * size - 1)
      return bits & sign == 0 ? Int64(bitPattern: bits) : -Int64(bitPattern: bits & ~sign)
    }
  }
  return zip(ordered(first), ordered(second)).map { ($0 - $1).magnitude }
}
