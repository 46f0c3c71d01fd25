import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

/// Merges that change what a model consists of, or what it says of itself.
struct MergeModelTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func model(_ tensors: [Stored], _ config: String) throws -> String {
    let folder = scratch.file("model")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try Files.write(tensors, to: folder + "/model.safetensors")
    try Data(config.utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
    return folder
  }

  private func merged(
    _ model: String, _ tensors: [Stored], config: String
  ) throws -> (tensors: [String: Stored], config: String) {
    try Files.writeAdapter(
      tensors, to: scratch.file("adapter"), rank: 1, alpha: 1, config: config)
    let request = MergeRequest(
      model: model, adapters: [WeightedAdapter(scratch.file("adapter"))],
      output: scratch.file("out"))
    _ = try request.run()
    return (
      try Files.read(request.output),
      try String(contentsOfFile: request.output + "/config.json", encoding: .utf8)
    )
  }

  private let embedding = Stored(
    "model.embed_tokens.weight", .f32, [4, 2], [1, 2, 3, 4, 5, 6, 7, 8])
  private let tied =
    #"{"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true, "vocab_size": 4}"#

  /// PEFT's merge_and_unload of transformers' tied models, as saved by save_pretrained (peft 0.21.2, transformers 5.23).
  @Test func aSavedHeadPartsFromItsEmbedding() throws {
    let head = Stored(
      "base_model.model.lm_head.weight", .f32, [4, 2], [8, 7, 6, 5, 4, 3, 2, 1])
    let result = try merged(
      try model([embedding], tied), [head], config: #", "modules_to_save": ["lm_head"]"#)
    #expect(result.tensors["model.embed_tokens.weight"]?.bytes == embedding.bytes)
    #expect(result.tensors["lm_head.weight"]?.bytes == head.bytes)
    #expect(result.config.contains(#""tie_word_embeddings": false"#))
  }

  @Test func aSavedEmbeddingLeavesTheHeadAsItWas() throws {
    let saved = Stored(
      "base_model.model.model.embed_tokens.weight", .f32, [4, 2], [8, 7, 6, 5, 4, 3, 2, 1])
    let result = try merged(
      try model([embedding], tied), [saved], config: #", "modules_to_save": ["embed_tokens"]"#)
    #expect(result.tensors["model.embed_tokens.weight"]?.bytes == saved.bytes)
    #expect(result.tensors["lm_head.weight"]?.bytes == embedding.bytes)
    #expect(result.config.contains(#""tie_word_embeddings": false"#))
  }

  @Test func ensuredTyingKeepsOneTensor() throws {
    let saved = [1, 2].map { index in
      Stored(
        index == 1
          ? "base_model.model.lm_head.weight" : "base_model.model.model.embed_tokens.weight",
        .f32, [4, 2], [8, 7, 6, 5, 4, 3, 2, 1])
    }
    let result = try merged(
      try model([embedding], tied), saved,
      config: #", "modules_to_save": ["embed_tokens"], "ensure_weight_tying": true"#)
    #expect(result.tensors.count == 1)
    #expect(result.tensors["model.embed_tokens.weight"]?.bytes == saved[0].bytes)
    #expect(result.config.contains(#""tie_word_embeddings": true"#))
  }

  @Test func aGrownVocabularyIsInTheConfiguration() throws {
    let saved = Stored(
      "base_model.model.model.embed_tokens.weight", .f32, [5, 2], [Double](repeating: 3, count: 10))
    let result = try merged(try model([embedding], tied), [saved], config: "")
    #expect(result.tensors["model.embed_tokens.weight"]?.shape == [5, 2])
    #expect(result.config.contains(#""vocab_size": 5"#))
  }

  @Test func shardsBehindSymbolicLinksAreRead() throws {
    let pair = try Pair(.f32, shapes: [[8, 8]], seed: 22)
    let (blobs, snapshot) = (pair.scratch.file("blobs"), pair.scratch.file("snapshots/rev"))
    for folder in [blobs, snapshot] {
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true)
    }
    try Files.write(pair.tensors, to: blobs + "/0f3c")
    try FileManager.default.createSymbolicLink(
      atPath: snapshot + "/model.safetensors", withDestinationPath: "../../blobs/0f3c")
    var request = pair.request()
    request.model = snapshot
    request.output = pair.scratch.file("merged")
    _ = try request.run()
    let kind = try FileManager.default.attributesOfItem(
      atPath: request.output + "/model.safetensors")[.type]
    #expect(kind as? FileAttributeType == .typeRegular)
    #expect(try Files.read(blobs + "/0f3c")["layers.0.q.weight"]?.bytes == pair.tensors[0].bytes)
  }
}
