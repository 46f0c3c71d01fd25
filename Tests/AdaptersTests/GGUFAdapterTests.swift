import Adapters
import Checkpoints
import Foundation
import Tensors
import Testing

/// Refusals of llama.cpp's adapters: a file written by its own library with some bytes changed.
struct GGUFAdapterTests {
  /// A change of the file, of equal length, and what is said of it.
  struct Case: CustomTestStringConvertible, Sendable {
    var id: String
    var kind = SurgeryError.Kind.data
    var tensor: String?
    var old: [UInt8]
    var new: [UInt8]

    init(
      _ id: String, _ tensor: String?, _ old: [UInt8], _ new: [UInt8],
      kind: SurgeryError.Kind = .data
    ) {
      (self.id, self.tensor, self.kind, self.old, self.new) = (id, tensor, kind, old, new)
    }

    init(
      _ id: String, _ tensor: String?, _ old: String, _ new: String,
      kind: SurgeryError.Kind = .data
    ) {
      self.init(id, tensor, Array(old.utf8), Array(new.utf8), kind: kind)
    }

    var testDescription: String { "\(id) \(String(decoding: new, as: UTF8.self))" }
  }

  private func written(_ change: Case) throws -> (files: TinyFiles, path: String) {
    let files = try TinyFiles()
    let source = URL(fileURLWithPath: Fixtures.root + "/../gguf/adapter.gguf")
    var data = try Data(contentsOf: source)
    #expect(change.old.count == change.new.count)
    while let range = data.range(of: Data(change.old)), change.old != change.new {
      data.replaceSubrange(range, with: change.new)
    }
    try data.write(to: URL(fileURLWithPath: files.folder.path("a.gguf")))
    return (files, files.folder.path("a.gguf"))
  }

  @Test(arguments: [
    Case("adapter.not-adapter", nil, "adapter\u{C}", "adaptor\u{C}"),
    Case("adapter.unsupported", "adapter.type", "lora\u{12}", "soap\u{12}", kind: .unsupported),
    Case(
      "adapter.unknown-key", "blk.0.attn_q.weight.lora_c", "weight.lora_a", "weight.lora_c"),
    // An alpha of 16, and one that is no number.
    Case("adapter.bad-alpha", "adapter.lora.alpha", [0, 0, 0x80, 0x41], [0, 0, 0xC0, 0x7F]),
    Case(
      "adapter.incomplete", "blk.1.attn_q.weight", "blk.0.attn_q.weight.lora_a",
      "blk.1.attn_q.weight.lora_a"),
  ])
  func malformed(_ change: Case) throws {
    let (files, path) = try written(change)
    defer { withExtendedLifetime(files) {} }
    var options = AdapterOptions()
    options.dialect = .gguf
    let error = #expect(throws: SurgeryError.self) {
      _ = try Adapter(opening: path, options: options)
    }
    #expect(error?.id == change.id && error?.kind == change.kind, "\(String(describing: error))")
    #expect(error?.file == path)
    if let tensor = change.tensor { #expect(error?.tensor == tensor) }
  }

  /// A GGUF file of an adapter without data to speak of: its keys, and float32 tensors by their shapes.
  private static func image(keys: [[UInt8]], _ tensors: [(name: String, shape: [Int])]) -> [UInt8] {
    func number(_ value: Int, _ count: Int) -> [UInt8] {
      (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    var (infos, size) = ([UInt8](), 0)
    for (name, shape) in tensors {
      infos += text(name) + number(shape.count, 4)
      infos += shape.reversed().flatMap { number($0, 8) } + number(0, 4) + number(size, 8)
      size += (shape.reduce(4, *) + 31) / 32 * 32
    }
    let head = Array("GGUF".utf8) + number(3, 4) + number(tensors.count, 8) + number(keys.count, 8)
    let header = head + keys.joined() + infos
    return header + [UInt8](repeating: 0, count: (32 - header.count % 32) % 32 + size)
  }

  private static func text(_ text: String) -> [UInt8] {
    [UInt8(text.utf8.count)] + [UInt8](repeating: 0, count: 7) + Array(text.utf8)
  }

  private static func key(_ name: String, _ value: String) -> [UInt8] {
    text(name) + [8, 0, 0, 0] + text(value)
  }

  /// Tensors of an adapter, and what is said of them.
  @Test(
    arguments: [
      (
        "adapter.shape", ["2 or 3 dimensions of both", "found [2, 4] and [3, 6, 2]"], false,
        [("a", [2, 4]), ("b", [3, 6, 2])]
      ),
      (
        "adapter.shape", ["expected 3 x 5 x in", "found [3, 2, 4]"], false,
        [("a", [3, 2, 4]), ("b", [3, 6, 5])]
      ),
      (
        "adapter.not-mergeable", ["works on some tokens only"], true,
        [("a", [2, 4]), ("b", [6, 2])]
      ),
    ] as [(String, [String], Bool, [(String, [Int])])])
  func adaptersThatChangeNoMatrices(
    _ id: String, _ says: [String], _ isActivated: Bool, _ factors: [(String, [Int])]
  ) throws {
    let files = try TinyFiles()
    var keys = [
      Self.key("general.type", "adapter"), Self.key("general.architecture", "llama"),
      Self.key("adapter.type", "lora"),
    ]
    // One token as an array of 32-bit numbers.
    let tokens: [UInt8] = [9, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]
    if isActivated { keys.append(Self.text("adapter.alora.invocation_tokens") + tokens) }
    let name = "blk.0.attn_v.weight"
    try files.folder.write(
      Self.image(keys: keys, factors.map { ("\(name).lora_\($0.0)", $0.1) }), to: "a.gguf")
    let error = #expect(throws: SurgeryError.self) {
      _ = try Adapter(opening: files.folder.path("a.gguf"))
    }
    #expect(error?.id == id, "\(String(describing: error))")
    #expect(error?.kind == (isActivated ? .unsupported : .data))
    #expect(error?.file == files.folder.path("a.gguf"))
    #expect(
      error?.tensor == (isActivated ? "adapter.alora.invocation_tokens" : "\(name).lora_a"))
    for words in says { #expect(error?.description.contains(words) == true, "\(says)") }
  }

  /// Each expert changes by `alpha / rank · b a` of its own slice (llama.cpp:src/llama-graph.cpp, `build_lora_mm_id`); the
  /// file is gguf-py's (fixtures/gguf/make.py).
  @Test func expertsOfOneTensorChangeOneByOne() throws {
    let files = try TinyFiles()
    let shapes = ["gate_proj": (6, 4), "up_proj": (6, 4), "down_proj": (4, 6)]
    var base: [String: TinyFiles.Tensor] = [:]
    for (name, (rows, columns)) in shapes {
      for expert in 0..<3 {
        base["model.layers.0.mlp.experts.\(expert).\(name).weight"] = .init(rows, columns)
      }
    }
    let model = try Checkpoint(opening: try files.write("base.safetensors", base))
    let path = Fixtures.root + "/../gguf/experts.gguf"
    let resolved = try Adapter(opening: path).resolved(against: model)
    var generator = SeededGenerator(seed: 1)
    let merged = try Merging.merged(resolved, as: Double.self, using: &generator)
    #expect(merged.count == 9)
    let stored = try Checkpoint(opening: path)
    func values(_ name: String) throws -> [Double] {
      try Merging.widened(try #require(stored[TensorName(name)]))
    }
    for (name, (rows, columns)) in shapes {
      let tensor = "blk.0.ffn_\(name.dropLast("_proj".count))_exps.weight"
      let (a, b) = (try values("\(tensor).lora_a"), try values("\(tensor).lora_b"))
      for expert in 0..<3 {
        let target = TensorName("model.layers.0.mlp.experts.\(expert).\(name).weight")
        var expected = try Merging.widened(try #require(model[target]))
        for row in 0..<rows {
          for column in 0..<columns {
            for rank in 0..<2 {
              // Alpha is 3, the rank 2.
              let up = b[(expert * rows + row) * 2 + rank]
              let down = a[(expert * 2 + rank) * columns + column]
              expected[row * columns + column] += 1.5 * up * down
            }
          }
        }
        let found = try #require(merged[target])
        #expect(Merging.largestDifference(found, expected) < 1e-12, "\(target)")
      }
    }
  }

  /// The rows of queries lie head by head, so the base must say how many heads it has.
  @Test(arguments: [
    (#"{"model_type":"llama"}"#, "adapter.no-heads"),
    (#"{"model_type":"llama","num_attention_heads":3}"#, "adapter.shape"),
    (#"{"model_type":"llama","num_attention_heads":9223372036854775807}"#, "adapter.no-heads"),
  ])
  func basesThatDoNotSayTheirHeads(_ config: String, _ id: String) throws {
    let (files, path) = try written(Case("", nil, "", ""))
    let adapter = try Adapter(opening: path)
    let update = try #require(adapter.modules.first?.update)
    try files.folder.write(config, to: "base/config.json")
    try files.write(
      "base/model.safetensors",
      ["model.layers.0.self_attn.q_proj.weight": .init(update.rows, update.columns)])
    let base = try Checkpoint(opening: files.folder.path("base"))
    let error = #expect(throws: SurgeryError.self) { _ = try adapter.resolved(against: base) }
    #expect(error?.id == id && error?.kind == .data, "\(String(describing: error))")
    #expect(error?.file == path && error?.tensor?.hasPrefix("blk.0.attn_q.weight") == true)
  }
}
