import Adapters
import Checkpoints
import Foundation
import LinearAlgebra
import Tensors

/// The files of `fixtures/combine`, written by PEFT with its own results (fixtures/combine/make.py).
enum CombineFixtures {
  static func path(_ name: String) -> String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("fixtures/combine/" + name).path
  }

  /// PEFT's changes of a case, by module.
  static func deltas(_ name: String) throws -> [String: [Double]] {
    let path = path("deltas.safetensors")
    var deltas: [String: [Double]] = [:]
    for tensor in try Checkpoint(opening: path).tensors
    where tensor.name.text.hasPrefix(name + ".") {
      deltas[String(tensor.name.text.dropFirst(name.count + 1))] = try TestModels.values(
        tensor.name, in: path)
    }
    return deltas
  }
}

/// What an adapter adds to each module, computed densely.
func deltas(of path: String) throws -> [String: Matrix<Double>] {
  var result: [String: Matrix<Double>] = [:]
  for module in try Adapter(opening: path).modules {
    let loaded = try module.update.loaded(scale: module.scale ?? .nan, as: Double.self)
    result[module.target.module] = loaded.delta(
      rows: 0..<module.update.rows, columns: 0..<module.update.columns)
  }
  return result
}

/// The Frobenius norm of the difference, relative to the second.
func relativeDistance(_ one: [Double], _ other: [Double]) -> Double {
  guard one.count == other.count else { return .infinity }
  let distance = zip(one, other).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
  let norm = other.reduce(0) { $0 + $1 * $1 }
  return (distance / max(norm, 1e-300)).squareRoot()
}

/// The bytes of every tensor of a file or folder, by name.
func tensorBytes(_ path: String) throws -> [TensorName: [UInt8]] {
  var result: [TensorName: [UInt8]] = [:]
  for tensor in try Checkpoint(opening: path).tensors { result[tensor.name] = try tensor.bytes() }
  return result
}
