import FoundationEssentials
import SystemPackage
import Tensors
import Testing

@testable import Checkpoints

/// A folder of one test, removed with the value.
final class TemporaryFolder {
  let path: String

  init() throws {
    path =
      FileManager.default.temporaryDirectory
      .appendingPathComponent("ls-\(String(UInt64.random(in: 0 ... .max), radix: 36))").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { FileSystem.removeTree(FilePath(path)) }

  /// The path of something in the folder.
  func path(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes a file and returns its path.
  @discardableResult
  func write(_ name: String, _ bytes: [UInt8]) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
    return path(name)
  }

  func makeFolder(_ name: String) throws {
    try FileManager.default.createDirectory(
      atPath: path(name), withIntermediateDirectories: true)
  }

  func link(_ name: String, to target: String) throws {
    try FileManager.default.createSymbolicLink(
      atPath: path(name), withDestinationPath: target)
  }

  func bytes(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: path(name))))
  }

  /// Everything in the folder, hidden files too.
  func names() throws -> [String] { try FileSystem.contents(of: FilePath(path)) }
}

/// The files of `fixtures/`.
enum Fixtures {
  static func path(_ name: String, file: String = #filePath) -> String {
    URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("fixtures/" + name).path
  }

  static func bytes(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: path(name))))
  }

  /// The bytes that the make.py scripts give their n-th tensor.
  static func data(_ n: Int, count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: 37 * n + 11 * $0) }
  }
}

/// The error that `body` throws.
func failure(
  of body: () throws -> Void, sourceLocation: SourceLocation = #_sourceLocation
) throws -> SurgeryError {
  do {
    try body()
  } catch let error as SurgeryError {
    return error
  }
  Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  throw CancellationError()
}

/// Little-endian bytes of an integer.
func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
  stride(from: 0, to: value.bitWidth, by: 8).map { UInt8(truncatingIfNeeded: value >> $0) }
}

/// A safetensors file of a header and data.
func safetensors(_ header: [UInt8], data: [UInt8] = []) -> [UInt8] {
  bytes(UInt64(header.count)) + header + data
}

/// A safetensors file of a header and data.
func safetensors(_ header: String, data: [UInt8] = []) -> [UInt8] {
  safetensors(Array(header.utf8), data: data)
}

/// Opens bytes as a file.
func open(_ bytes: [UInt8], as name: String) throws -> TensorFile {
  let folder = try TemporaryFolder()
  return try TensorFile(opening: try folder.write(name, bytes))
}

/// Writes tensors as one file of a format and returns its bytes.
func write(
  _ tensors: [(TensorInfo, [UInt8])], format: FileFormat, metadata: [String: String] = [:],
  ggufMetadata: GGUFMetadata = GGUFMetadata()
) throws -> [UInt8] {
  let folder = try TemporaryFolder()
  var plan = TensorFilePlan(
    relativePath: "out", format: format, tensors: tensors.map(\.0), metadata: metadata)
  plan.ggufMetadata = ggufMetadata
  let writer = try CheckpointWriter(
    CheckpointPlan(path: folder.path("out"), kind: .file, files: [plan]), replacing: false,
    inputs: [], interruption: Interruption())
  for (index, (_, bytes)) in tensors.enumerated() {
    try writer.write(
      bytes.span.bytes, to: PlannedTensor(file: 0, tensor: index), at: 0, through: WriteStage())
  }
  try writer.commit()
  #expect(try folder.names() == ["out"])
  return try folder.bytes("out")
}

/// Describes a tensor of a test.
func info(_ name: String, _ dtype: DType, _ dimensions: [Int]) throws -> TensorInfo {
  let shape = try #require(Shape(dimensions))
  return try #require(TensorInfo(name: TensorName(name), dtype: dtype, shape: shape))
}

/// A generator that gives the same numbers in every run: SplitMix64 of Steele, Lea & Flood 2014,
/// doi:10.1145/2660193.2660195.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
