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

  /// As transformers writes models that read text and images (transformers:src/transformers/models/llava).
  @Test func thePartsOfAModelHaveConfigurationsOfTheirOwn() throws {
    let folder = try model(
      [embedding],
      #"{"text_config": {"model_type": "llama", "vocab_size": 4, "torch_dtype": "float32"}, "#
        + #""vision_config": {"dtype": "float32", "vocab_size": 9}, "#
        + #""quantization_config": {"dtype": "float32"}, "dtype": "float32"}"#)
    let saved = Stored(
      "base_model.model.model.embed_tokens.weight", .f32, [5, 2], [Double](repeating: 3, count: 10))
    try Files.writeAdapter([saved], to: scratch.file("adapter"), rank: 1, alpha: 1)
    var request = MergeRequest(
      model: folder, adapters: [WeightedAdapter(scratch.file("adapter"))],
      output: scratch.file("out"))
    request.dtype = .bf16
    request.undo = scratch.file("undo")
    let report = try request.run()
    let config = try JSONValue(readingFile: request.output + "/config.json")
    #expect(config["text_config"]?["vocab_size"]?.integer == 5)
    #expect(config["text_config"]?["torch_dtype"]?.text == "bfloat16")
    #expect(config["vision_config"]?["dtype"]?.text == "bfloat16")
    #expect(config["vision_config"]?["vocab_size"]?.integer == 9)
    #expect(config["dtype"]?.text == "bfloat16")
    #expect(config["quantization_config"]?["dtype"]?.text == "float32")
    #expect(report.warnings.contains { $0.contains("text_config.vocab_size becomes 5") })
    var back = MergeRequest(
      .unmerge, model: request.output, adapters: request.adapters, output: scratch.file("back"))
    back.undo = request.undo
    _ = try back.run()
    #expect(
      try String(contentsOfFile: back.output + "/config.json", encoding: .utf8)
        == String(contentsOfFile: folder + "/config.json", encoding: .utf8))
  }

  @Test func aHeadThatIsUntiedIsScaledAsItsRuleSays() throws {
    let folder = try model([embedding], tied)
    let factors = [
      Stored("base_model.model.lm_head.lora_A.weight", .f32, [1, 2], [1, 2]),
      Stored("base_model.model.lm_head.lora_B.weight", .f32, [4, 1], [1, 0, -1, 2]),
    ]
    try Files.writeAdapter(factors, to: scratch.file("adapter"), rank: 1, alpha: 1)
    var request = MergeRequest(
      model: folder, adapters: [WeightedAdapter(scratch.file("adapter"))],
      output: scratch.file("out"))
    request.adapterOptions.untiesEmbeddings = true
    request.scaleFor = [ScaleRule(pattern: "lm_head", factor: 0.5)]
    _ = try request.run()
    let tensors = try Files.read(request.output)
    #expect(tensors["lm_head.weight"]?.values == [1.5, 3, 3, 4, 4.5, 5, 8, 10])
    #expect(tensors["model.embed_tokens.weight"]?.bytes == embedding.bytes)
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
