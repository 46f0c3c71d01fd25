import Adapters
import Foundation
import LinearAlgebra
import LoRASurgery
import Tensors
import Testing

@testable import Checkpoints

/// Adapters and files for the tests of the compact format.
struct CompactWorkshop {
  let folder: TemporaryFolder
  let spool: SpoolFile

  init() throws {
    folder = try TemporaryFolder()
    spool = try SpoolFile(beside: folder.path("spool"))
  }

  /// A tensor of given values.
  func tensor(_ name: String, _ shape: [Int], _ dtype: DType, _ values: [Double]) throws
    -> StoredTensor
  {
    let info = try TensorInfo(
      name: TensorName(name), dtype: dtype, shape: #require(Shape(shape))
    ).unwrapped()
    var bytes = [UInt8](repeating: 0, count: info.byteCount)
    bytes.withMutableBytesOfAll { target in
      _ = ElementConversion.narrow(values.span, to: dtype, into: &target)
    }
    return try unsafe spool.append(bytes.span.bytes, as: info)
  }

  /// A tensor of random bits, NaN and infinities included.
  func noise(
    _ name: String, _ shape: [Int], _ dtype: DType, _ generator: inout SeededGenerator
  ) throws -> StoredTensor {
    let info = try TensorInfo(
      name: TensorName(name), dtype: dtype, shape: #require(Shape(shape))
    ).unwrapped()
    let bytes = (0..<info.byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
    return try unsafe spool.append(bytes.span.bytes, as: info)
  }

  /// A tensor of Gaussian values, every row multiplied by its factor.
  func gaussian(
    _ name: String, _ shape: [Int], _ dtype: DType, rowFactors: [Double] = [],
    _ generator: inout SeededGenerator
  ) throws -> StoredTensor {
    let columns = shape.dropFirst().reduce(1, *)
    let count = shape.reduce(1, *)
    let values = (0..<count).map { index in
      normal(&generator) * (rowFactors.isEmpty ? 1 : rowFactors[index / columns])
    }
    return try tensor(name, shape, dtype, values)
  }

  private func normal(_ generator: inout SeededGenerator) -> Double {
    var sum = 0.0
    for _ in 0..<12 { sum += Double.random(in: 0...1, using: &generator) }
    return sum - 6
  }

  /// An adapter of some updates.
  func adapter(_ modules: [(String, any Update, Double)]) -> Adapter {
    Adapter(
      path: "made",
      modules: modules.map {
        ModuleUpdate(changing: TensorName("\($0.0).weight"), by: $0.1, scale: $0.2)
      }, provenance: Adapter.Provenance(dialect: .peft, reason: "made"))
  }

  /// Writes an adapter and returns its path.
  @discardableResult
  func write(
    _ adapter: Adapter, as name: String = "a.lra",
    _ change: (inout AdapterWritingOptions) -> Void = { _ in }
  ) throws -> String {
    var options = AdapterWritingOptions(dialect: .compact, format: .compact)
    change(&options)
    let path = folder.path(name)
    try adapter.plan(to: path, options: options).write(
      replacing: true, inputs: [], Execution())
    return path
  }

  /// The dense delta of a module, scale included.
  static func delta(_ module: ModuleUpdate) throws -> Matrix<Double> {
    let update = module.update
    let loaded = try update.loaded(scale: module.scale ?? 1, as: Double.self)
    return try #require(loaded.delta(rows: 0..<update.rows, columns: 0..<update.columns))
  }

  /// Squared norms of a delta and of its difference to another.
  static func squares(_ found: Matrix<Double>, _ exact: Matrix<Double>) -> (
    error: Double, norm: Double
  ) {
    var (error, norm) = (0.0, 0.0)
    for (x, y) in zip(found.elements, exact.elements) {
      error += (x - y) * (x - y)
      norm += y * y
    }
    return (error, norm)
  }
}

extension [UInt8] {
  fileprivate mutating func withMutableBytesOfAll(_ body: (inout MutableRawSpan) -> Void) {
    var span = mutableSpan
    var bytes = unsafe span.mutableBytes
    body(&bytes)
  }
}

extension Optional {
  fileprivate func unwrapped() throws -> Wrapped { try #require(self) }
}

/// A compact file taken apart, to be put together with one rule broken.
struct CompactImage {
  var body: [UInt8]
  var header: [UInt8]
  var version: UInt16 = 1
  var flags: UInt16 = 0
  var headerSize: UInt64?
  var reserved: UInt64 = 0

  init(_ bytes: [UInt8]) throws {
    let preamble = try CompactPreamble(
      Array(bytes[..<64]), fileSize: UInt64(bytes.count))
    body = Array(bytes[64..<Int(preamble.headerOffset)])
    let stored = Array(bytes[Int(preamble.headerOffset)...])
    header = stored
    if preamble.headerSize != preamble.storedHeaderSize {
      header = [UInt8](repeating: 0, count: Int(preamble.headerSize))
      try header.withMutableRawSpan(header.indices) { (target) throws(SurgeryError) in
        try CompactPlane.inflate(stored.span, into: &target)
      }
    }
  }

  var json: JSONValue {
    get throws { try JSONValue(parsing: header) }
  }

  /// The file, with checksums that agree.
  var sealed: [UInt8] {
    let offset = UInt64(64 + body.count)
    var bytes = CompactFormat.magic
    bytes.appendLittleEndian(version)
    bytes.appendLittleEndian(flags)
    bytes.appendLittleEndian(header.crc32)
    bytes.appendLittleEndian(offset)
    bytes.appendLittleEndian(UInt64(header.count))
    bytes.appendLittleEndian(headerSize ?? UInt64(header.count))
    bytes.appendLittleEndian(offset + UInt64(header.count))
    bytes.appendLittleEndian((body + header).crc32)
    bytes.appendLittleEndian(reserved)
    bytes.appendLittleEndian(bytes.crc32)
    return bytes + body + header
  }

  /// Changes the header's text by replacing the first occurrence.
  mutating func replace(_ old: String, _ new: String) throws {
    let text = String(decoding: header, as: UTF8.self)
    let range = try #require(text.firstRange(of: old), "\(old)")
    header = Array(text.replacingCharacters(in: range, with: new).utf8)
  }
}
