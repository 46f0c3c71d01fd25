import Glibc
import SystemPackage
import Tensors
import Testing

@testable import Checkpoints

/// A model in two shards, and everything that an index may say wrong about it.
@Suite struct ShardIndexTests {
  private static let first = "model-00001-of-00002.safetensors"
  private static let second = "model-00002-of-00002.safetensors"
  private static let index = "model.safetensors.index.json"

  private static func shard(_ names: String...) -> [UInt8] {
    let entries = names.enumerated().map { n, name in
      "\"\(name)\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[\(2 * n),\(2 * n + 2)]}"
    }
    return safetensors(
      "{\(entries.joined(separator: ","))}",
      data: names.indices.flatMap { [UInt8($0), UInt8(names.count)] })
  }

  private func folder(
    _ map: String, metadata: String = "{\"total_size\":6}", shards: [String: [UInt8]] = [:]
  ) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    try folder.write(Self.first, Self.shard("a", "b"))
    try folder.write(Self.second, Self.shard("c"))
    for (name, bytes) in shards { try folder.write(name, bytes) }
    try folder.write(
      Self.index, Array("{\"metadata\":\(metadata),\"weight_map\":\(map)}".utf8))
    return folder
  }

  private static let map = "{\"a\":\"\(first)\",\"b\":\"\(first)\",\"c\":\"\(second)\"}"

  private func refusal(_ folder: TemporaryFolder) throws -> SurgeryError {
    let error = try failure { _ = try Checkpoint(opening: folder.path) }
    #expect(error.file?.hasPrefix(folder.path) == true)
    return error
  }

  @Test func shardsMayTakeTurns() throws {
    let folder = try folder(
      "{\"a\":\"\(Self.first)\",\"c\":\"\(Self.second)\",\"b\":\"\(Self.first)\"}")
    let model = try Checkpoint(opening: folder.path)
    #expect(model.files.map(\.relativePath) == [Self.first, Self.second])
    #expect(model.tensors.map(\.name) == ["a", "b", "c"])
  }

  @Test func readsAModel() throws {
    let folder = try folder(Self.map)
    try folder.write("config.json", Array("{\"model_type\":\"llama\"}".utf8))
    try folder.write("tokenizer.json", Array("{}".utf8))
    try folder.write("other.safetensors", Array("not read".utf8))
    let model = try Checkpoint(opening: folder.path)
    #expect(model.layout == .sharded(index: Self.index) && model.isFolder)
    #expect(model.tensors.map(\.name) == ["a", "b", "c"] && model.byteCount == 6)
    #expect(model.position(of: "c") == 2 && model["d"] == nil)
    #expect(try model["b"]?.bytes() == [1, 2])
    #expect(model.config?["model_type"]?.text == "llama")
    #expect(model.companions.map(\.relativePath) == ["config.json", "tokenizer.json"])
    #expect(model.leftBehind == ["other.safetensors"] && model.warnings.isEmpty)
    try model.checkUnchanged()
  }

  @Test(arguments: [
    "../x.safetensors", "/x.safetensors", "a/../x.safetensors", "./x.safetensors", ".", "..", "",
    "a//x.safetensors", "x\\\\y.safetensors", "C:x.safetensors", "https://h/x.safetensors",
    "x\\u0000.safetensors", "x\\n.safetensors", "x/", "config.json", "x",
    // A slash with a combining accent is one character and two bytes of a path.
    "../\u{301}x.safetensors", "..\u{2F}\u{338}x.safetensors",
  ])
  func refusesPaths(shard: String) throws {
    let error = try refusal(try folder("{\"a\":\"\(shard)\"}"))
    #expect(error.id == "index.path" && error.kind == .data && error.tensor == "a")
  }

  @Test(arguments: [
    ("index.form", "[]"), ("index.form", "null"), ("index.form", "{\"a\":1}"),
    ("index.form", "{\"a\":null}"), ("json.duplicate", "{\"a\":\"x\",\"a\":\"y\"}"),
    ("json.syntax", "{\"a\":\"x\",}"),
    ("file.missing", "{\"a\":\"none.safetensors\"}"),
    ("file.missing", "{\"a\":\"\(String(repeating: "n", count: 300)).safetensors\"}"),
    ("index.extra", "{\"a\":\"\(first)\",\"c\":\"\(second)\"}"),
    ("index.missing", "{\"a\":\"\(first)\",\"b\":\"\(first)\",\"d\":\"\(first)\"}"),
    ("index.wrong-shard", "{\"a\":\"\(first)\",\"b\":\"\(second)\",\"c\":\"\(second)\"}"),
  ])
  func refusesMaps(id: String, map: String) throws {
    #expect(try refusal(try folder(map)).id == id)
  }

  @Test func refusesATensorInTwoShards() throws {
    let error = try refusal(try folder(Self.map, shards: [Self.second: Self.shard("c", "b")]))
    #expect(error.id == "index.wrong-shard" && error.tensor == "b")
  }

  @Test func refusesABrokenShard() throws {
    let cut = Array(Self.shard("c").dropLast())
    let error = try refusal(try folder(Self.map, shards: [Self.second: cut]))
    #expect(error.id == "st.truncated" && error.file?.hasSuffix(Self.second) == true)
  }

  @Test(arguments: ["{\"total_size\":-1}", "{\"total_size\":\"6\"}", "{\"total_size\":null}"])
  func refusesTotals(metadata: String) throws {
    #expect(try refusal(try folder(Self.map, metadata: metadata)).id == "index.total")
  }

  @Test(arguments: [
    ("{\"total_size\":6.0}", 0), ("{}", 0), ("null", 0), ("{\"total_size\":7}", 1),
    ("{\"total_size\":1e400}", 1),
  ])
  func readsTotals(metadata: String, warnings: Int) throws {
    let folder = try folder(Self.map, metadata: metadata)
    if metadata.contains("1e400") {
      #expect(try refusal(folder).id == "index.total")
    } else {
      #expect(try Checkpoint(opening: folder.path).warnings.count == warnings)
    }
  }

  @Test func followsTheLinksOfTheHubCache() throws {
    let cache = try TemporaryFolder()
    try cache.makeFolder("blobs")
    try cache.makeFolder("snapshots/abc")
    try cache.write("blobs/1", Self.shard("a", "b"))
    try cache.write("blobs/2", Self.shard("c"))
    try cache.link("snapshots/abc/" + Self.first, to: "../../blobs/1")
    try cache.link("snapshots/abc/" + Self.second, to: "../../blobs/2")
    try cache.write("snapshots/abc/" + Self.index, Array("{\"weight_map\":\(Self.map)}".utf8))
    #expect(try Checkpoint(opening: cache.path("snapshots/abc")).tensors.count == 3)
    #expect(try Checkpoint(opening: cache.path).tensors.count == 3)
    try cache.makeFolder("snapshots/def")
    try cache.write("snapshots/def/model.safetensors", Self.shard("a"))
    #expect(try failure { _ = try Checkpoint(opening: cache.path) }.id == "folder.ambiguous")
  }

  @Test func readsShardsInSubfolders() throws {
    let folder = try TemporaryFolder()
    try folder.makeFolder("parts")
    try folder.write("parts/x.safetensors", Self.shard("a"))
    try folder.write(
      Self.index, Array("{\"weight_map\":{\"a\":\"parts/x.safetensors\"}}".utf8))
    #expect(
      try Checkpoint(opening: folder.path).files.map(\.relativePath) == ["parts/x.safetensors"])
  }

  @Test func aShardThatIsNoFileIsRefused() throws {
    let folder = try folder(Self.map)
    FileSystem.removeTree(FilePath(folder.path(Self.second)))
    #expect(unsafe folder.path(Self.second).withCString { unsafe mkfifo($0, 0o600) } == 0)
    #expect(try refusal(folder).id == "file.not-regular")
    FileSystem.removeTree(FilePath(folder.path(Self.second)))
    try folder.makeFolder(Self.second)
    #expect(try refusal(folder).id == "file.not-regular")
    FileSystem.removeTree(FilePath(folder.path(Self.second)))
    try folder.link(Self.second, to: "nowhere")
    #expect(try refusal(folder).kind == .missingInput)
  }
}

/// Folders without an index.
@Suite struct ModelFolderTests {
  private let file = safetensors("{}")

  @Test func picksTheOneFile() throws {
    let folder = try TemporaryFolder()
    #expect(try failure { _ = try Checkpoint(opening: folder.path) }.id == "folder.no-weights")
    try folder.write("x.safetensors", file)
    #expect(try Checkpoint(opening: folder.path).layout == .folder(file: "x.safetensors"))
    try folder.write("y.safetensors", file)
    #expect(try failure { _ = try Checkpoint(opening: folder.path) }.id == "folder.ambiguous")
    try folder.write("model.safetensors", file)
    #expect(try Checkpoint(opening: folder.path).layout == .folder(file: "model.safetensors"))
    try folder.write("a.safetensors.index.json", Array("{}".utf8))
    try folder.write("b.safetensors.index.json", Array("{}".utf8))
    #expect(try failure { _ = try Checkpoint(opening: folder.path) }.id == "folder.ambiguous")
  }

  @Test func readsAPipeline() throws {
    let folder = try TemporaryFolder()
    try folder.write("model_index.json", Array("{}".utf8))
    try folder.makeFolder("unet")
    try folder.makeFolder("scheduler")
    try folder.write("scheduler/scheduler_config.json", Array("{}".utf8))
    try folder.write("unet/config.json", Array("{}".utf8))
    try folder.write(
      "unet/diffusion_pytorch_model.safetensors",
      safetensors(#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, data: [9]))
    let pipeline = try Checkpoint(opening: folder.path)
    #expect(pipeline.layout == .pipeline && pipeline.tensors.map(\.name) == ["unet/w"])
    #expect(
      Set(pipeline.companions.map(\.relativePath)) == [
        "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
      ])
  }

  @Test func missingPathsAreNamed() throws {
    let folder = try TemporaryFolder()
    let error = try failure { _ = try Checkpoint(opening: folder.path("none")) }
    #expect(error.id == "file.missing" && error.kind == .missingInput)
    #expect(
      try failure { _ = try Checkpoint(opening: "/dev/null") }.id == "file.not-regular")
  }
}
