import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

/// Hashes of tensors in metadata, against kohya's own functions (fixtures/hashes/make.py).
struct HashTests {
  private let scratch: Scratch
  private let expected: JSONValue

  init() throws {
    scratch = try Scratch()
    expected = try JSONValue(
      readingFile: URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("fixtures/hashes/expected.json").path)
  }

  private static let training = [
    "ss_base_model_version": "sd_v1", "ss_tag_frequency": #"{"é": "\n"}"#,
    "modelspec.title": "t", "format": "pt",
  ]
  private static let keys = ["sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"]

  /// The model and the adapter of make.py; the hashes in the model's metadata are wrong.
  private func write(_ metadata: [String: String] = training) throws {
    var texts = metadata
    for key in Self.keys { texts[key] = "stale" }
    texts["modelspec.hash_md5"] = "0x00"
    try Files.write(
      [
        Stored("a.weight", .f16, [720, 768], (0..<552_960).map { Double($0 % 7) }),
        Stored("b.weight", .f32, [4, 6], (0..<24).map { Double($0) / 8 }),
      ], to: scratch.file("base.safetensors"), metadata: texts)
    let down = Stored(
      "base_model.model.b.lora_A.weight", .f32, [2, 6], (0..<12).map { Double($0) / 4 - 1 })
    let up = Stored(
      "base_model.model.b.lora_B.weight", .f32, [4, 2], (0..<8).map { Double($0) / 4 - 1 })
    try Files.writeAdapter([down, up], to: scratch.file("adapter"), rank: 2, alpha: 2)
  }

  private func expect(_ path: String, _ name: String) throws {
    let metadata = try #require(try Checkpoint(opening: path).files.first).file.metadata
    for key in Self.keys { #expect(metadata[key] == expected[name]?[key]?.text, "\(name) \(key)") }
    #expect(metadata["modelspec.hash_md5"] == nil)
  }

  @Test func aMergedModelHasItsOwnHashes() throws {
    try write()
    let merged = scratch.file("merged.safetensors")
    let report = try MergeRequest(
      model: scratch.file("base.safetensors"),
      adapters: [WeightedAdapter(scratch.file("adapter"))], output: merged
    ).run()
    try expect(merged, "merged")
    #expect(report.warnings.contains { $0.contains("modelspec.hash_md5") })
    var narrow = ConvertRequest(input: merged, output: scratch.file("narrow.safetensors"))
    narrow.dtype = .bf16
    _ = try narrow.run()
    try expect(narrow.output, "merged bfloat16")
  }

  @Test func theOldHashDependsOnTheTrainingMetadataAlone() throws {
    try write(["modelspec.title": "a title that is in no way short"])
    let copy = ConvertRequest(
      input: scratch.file("base.safetensors"), output: scratch.file("copy.safetensors"))
    _ = try copy.run()
    try expect(copy.output, "without training")
  }

  @Test func otherContainersHaveNoSuchHashes() throws {
    try write()
    let copy = ConvertRequest(
      input: scratch.file("base.safetensors"), output: scratch.file("copy.npz"))
    let report = try copy.run()
    #expect(report.warnings.contains { $0.contains("sshs_model_hash") })
    #expect(try Checkpoint(opening: copy.output).metadata["sshs_legacy_hash"] == nil)
  }

  @Test func partsAndWholeAgree() throws {
    try write()
    try FileManager.default.createDirectory(
      atPath: scratch.file("parts"), withIntermediateDirectories: false)
    for number in 1...2 {
      var request = MergeRequest(
        model: scratch.file("base.safetensors"),
        adapters: [WeightedAdapter(scratch.file("adapter"))], output: scratch.file("parts"))
      request.part = try Part(number, of: 2)
      _ = try request.run()
    }
    let output = scratch.file("gathered.safetensors")
    _ = try GatherRequest(pieces: [scratch.file("parts")], output: output).run()
    try expect(output, "merged")
  }

  @Test func aResizedAdapterKeepsItsTrainingAndGetsItsHash() throws {
    var texts = Self.training
    texts["sshs_model_hash"] = "stale"
    texts["ss_network_args"] = "{}"
    try Files.write(
      [
        Stored("lora_unet_b.lora_down.weight", .f32, [2, 6], (0..<12).map { Double($0) - 5 }),
        Stored("lora_unet_b.lora_up.weight", .f32, [4, 2], (0..<8).map { Double($0) / 4 }),
        Stored("lora_unet_b.alpha", .f32, [], [2]),
      ], to: scratch.file("kohya.safetensors"), metadata: texts)
    let resize = ResizeRequest(
      adapter: scratch.file("kohya.safetensors"), output: scratch.file("small.safetensors"),
      ranks: RankOptions(rank: 1))
    _ = try resize.run()
    let file = try #require(try Checkpoint(opening: resize.output).files.first).file
    #expect(file.metadata["ss_base_model_version"] == "sd_v1")
    #expect(file.metadata["ss_network_dim"] == "1")
    #expect(file.metadata["ss_network_args"] == nil)
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: resize.output)))
    let header = (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
    var hash = SHA256()
    hash.update(bytes.span.extracting((8 + header)..<bytes.count).bytes)
    #expect(file.metadata["sshs_model_hash"] == hash.hexadecimal)
  }
}
