import Adapters
import Foundation
import LoRASurgery
import Tensors
import Testing

/// Adapters that do not go together, or not with what is asked for: nothing is written, and the message says where and what helps.
struct ConflictTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func write(
    _ tensors: [String: [Int]], to name: String, config: String? = nil
  ) throws -> String {
    var random = SeededGenerator(3)
    try TestModels.write(
      tensors.sorted { $0.key < $1.key }.map { name, shape in
        TestTensor(
          name: TensorName(name), shape: shape, values: random.values(shape.reduce(1, *)))
      }, to: folder(name), config: config)
    return folder(name)
  }

  private static let lora = [
    "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [6, 2],
  ]
  private static let loha = [
    "lora_unet_q.hada_w1_a": [6, 2], "lora_unet_q.hada_w1_b": [2, 4],
    "lora_unet_q.hada_w2_a": [6, 2], "lora_unet_q.hada_w2_b": [2, 4],
  ]
  private static let dora = lora.merging(["lora_unet_q.dora_scale": [6, 1]]) { $1 }
  private static let difference = ["lora_unet_q.diff": [6, 4]]
  /// A tensor stored in full, beside factors of another.
  private static let replacement = [
    "lora_unet_q.set_weight": [6, 4], "lora_unet_k.lora_down.weight": [2, 4],
    "lora_unet_k.lora_up.weight": [6, 2],
  ]

  /// Two adapters, and what is said of them.
  struct Pair: CustomTestStringConvertible, Sendable {
    var id: String
    var says: String
    var first: [String: [Int]]
    var second: [String: [Int]]

    var testDescription: String { "\(id): \(says)" }
  }

  /// Whatever it is called: a link, and an adapter of another name, tell the same file from a copy.
  @Test func anAdapterThatIsNamedTwiceIsSaid() throws {
    let base = try write(["q.weight": [6, 4]], to: "base.safetensors")
    let adapter = try write(Self.lora, to: "a.safetensors")
    let copy = try write(Self.lora, to: "copy.safetensors")
    let link = folder("link.safetensors")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: adapter)
    let sentence = "\(link): the same file as \(adapter); its change counts each time"
    for (paths, warnings) in [([adapter, link], [sentence]), ([adapter, copy], [])] {
      let adapters = paths.map { WeightedAdapter($0) }
      let warnings = paths.map { "\($0): 1 module without alpha: scale 1" } + warnings
      let merged = folder("merged-\(warnings.count).safetensors")
      let merge = try MergeRequest(model: base, adapters: adapters, output: merged).run()
      #expect(merge.warnings == warnings)
      let combination = try CombineRequest(
        adapters: adapters, output: folder("sum-\(warnings.count)"), method: .concat
      ).run()
      #expect(combination.warnings == warnings)
    }
  }

  @Test(arguments: [
    Pair(
      id: "merge.conflict", says: "two adapters replace the same tensor", first: replacement,
      second: replacement),
    Pair(
      id: "merge.conflict", says: "replaces a tensor that one before it changes", first: lora,
      second: replacement),
  ])
  func merges(_ pair: Pair) throws {
    let base = try write(["q.weight": [6, 4], "k.weight": [6, 4]], to: "base.safetensors")
    let adapters = [
      try write(pair.first, to: "a.safetensors"), try write(pair.second, to: "b.safetensors"),
    ]
    let request = MergeRequest(
      model: base, adapters: adapters.map { WeightedAdapter($0) }, output: folder("out.safetensors")
    )
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == pair.id && error?.kind == .data)
    #expect(error?.what.contains(pair.says) == true, "\(String(describing: error))")
    #expect(error?.file == base && error?.tensor == "q.weight" && error?.hint != nil)
    #expect(folder.contents == ["a.safetensors", "b.safetensors", "base.safetensors"])
  }

  /// One adapter sees a stack of experts, the other a matrix of as many elements.
  @Test func mergesThatSeeOtherMatrices() throws {
    let base = try write(["e.weight": [3, 6, 4]], to: "base.safetensors")
    let stack = try write(
      [
        "base_model.model.e.lora_A.weight": [6, 4], "base_model.model.e.lora_B.weight": [6, 6],
      ], to: "a.safetensors")
    try FileManager.default.createDirectory(
      atPath: folder("stack"), withIntermediateDirectories: false)
    try FileManager.default.moveItem(
      atPath: stack, toPath: folder("stack/adapter_model.safetensors"))
    try Data(
      #"{"peft_type":"LORA","r":2,"lora_alpha":2,"target_parameters":["e.weight"]}"#.utf8
    ).write(to: URL(fileURLWithPath: folder("stack/adapter_config.json")))
    let matrix = try write(["lora_unet_e.diff": [3, 6, 4]], to: "b.safetensors")
    let request = MergeRequest(
      model: base, adapters: [WeightedAdapter(folder("stack")), WeightedAdapter(matrix)],
      output: folder("out.safetensors"))
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == "merge.conflict", "\(String(describing: error))")
    #expect(error?.what.contains("different matrices") == true)
    #expect(error?.file == base && error?.tensor == "e.weight")
    #expect(!folder.contents.contains("out.safetensors"))
  }

  /// Two adapters give a model that shares its embedding an output head each.
  @Test func mergesThatAddATensorTwice() throws {
    let base = try write(
      ["model.embed_tokens.weight": [6, 4]], to: "base", config: #"{"tie_word_embeddings":true}"#)
    let adapters = try ["a", "b"].map { name in
      try FileManager.default.createDirectory(
        atPath: folder(name), withIntermediateDirectories: false)
      _ = try write(
        ["base_model.model.lm_head.modules_to_save.weight": [6, 4]],
        to: "\(name)/adapter_model.safetensors")
      try Data(
        #"{"peft_type":"LORA","r":2,"lora_alpha":2,"modules_to_save":["lm_head"]}"#.utf8
      ).write(to: URL(fileURLWithPath: folder("\(name)/adapter_config.json")))
      return folder(name)
    }
    let request = MergeRequest(
      model: base, adapters: adapters.map { WeightedAdapter($0) }, output: folder("out"))
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == "merge.conflict" && error?.kind == .data, "\(String(describing: error))")
    #expect(error?.file == adapters[1] && error?.tensor == "lm_head.weight")
    #expect(error?.hint?.contains("--exclude") == true)
    #expect(folder.contents == ["a", "b", "base"])
  }

  /// A tensor that the adapter stores in full is no number that could be rounded to the base's dtype.
  @Test func replacementsThatCannotBeConverted() throws {
    let base = try write(["q.weight": [6, 4], "k.weight": [6, 4]], to: "base.safetensors")
    var stored = Self.replacement.sorted { $0.key < $1.key }.map { name, shape in
      Stored(name, .f32, shape, [Double](repeating: 1, count: shape.reduce(1, *)))
    }
    let place = try #require(stored.firstIndex { $0.name == "lora_unet_q.set_weight" })
    stored[place].dtype = .f8e8m0
    stored[place].bytes = [UInt8](repeating: 127, count: 24)
    let adapter = folder("a.safetensors")
    try Files.write(stored, to: adapter)
    let request = MergeRequest(
      model: base, adapters: [WeightedAdapter(adapter)], output: folder("out.safetensors"))
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == "tensor.dtype" && error?.kind == .unsupported)
    #expect(error?.file == adapter && error?.tensor == "q.weight" && error?.found == "F8_E8M0")
    #expect(folder.contents == ["a.safetensors", "base.safetensors"])
  }

  /// The base's old bytes are recorded element by element, which four bits are not.
  @Test func elementsThatCannotBeRecorded() throws {
    let ones = [Double](repeating: 1, count: 24)
    func codes(_ name: String, _ byte: UInt8) -> Stored {
      Stored(name, .f4, [6, 4], bytes: [UInt8](repeating: byte, count: 12))
    }
    try Files.write(
      [Stored("k.weight", .f32, [6, 4], ones), codes("q.weight", 0x11)],
      to: folder("base.safetensors"))
    try Files.write(
      [Stored("lora_unet_k.diff", .f32, [6, 4], ones), codes("lora_unet_q.set_weight", 0x22)],
      to: folder("a.safetensors"))
    var request = MergeRequest(
      model: folder("base.safetensors"), adapters: [WeightedAdapter(folder("a.safetensors"))],
      output: folder("out.safetensors"))
    request.undo = folder("undo")
    let error = surgeryError { _ = try request.run() }
    #expect(
      error?.id == "undo.dtype" && error?.kind == .unsupported, "\(String(describing: error))")
    #expect(error?.file == folder("base.safetensors") && error?.tensor == "q.weight")
    #expect(error?.found == "F4")
    #expect(folder.contents == ["a.safetensors", "base.safetensors"])
  }

  @Test func weightsAndFactorsThatAreNotFinite() throws {
    let base = try write(["q.weight": [6, 4]], to: "base.safetensors")
    let adapter = try write(Self.lora, to: "a.safetensors")
    var request = MergeRequest(
      model: base, adapters: [WeightedAdapter(adapter, weight: .infinity)],
      output: folder("out.safetensors"))
    let weight = surgeryError { _ = try request.run() }
    #expect(weight?.id == "merge.weight" && weight?.kind == .usage && weight?.file == adapter)
    request.adapters = [WeightedAdapter(adapter)]
    request.scaleFor = [ScaleRule(pattern: "q", factor: .nan)]
    let factor = surgeryError { _ = try request.run() }
    #expect(factor?.id == "usage.scale-for" && factor?.kind == .usage)
    request.scaleFor = [ScaleRule(pattern: "nothing", factor: 2)]
    #expect(surgeryError { _ = try request.run() }?.found == "nothing")
  }

  @Test(arguments: [
    Pair(
      id: "combine.twice", says: "changes a tensor twice", first: lora,
      second: lora.merging(difference) { $1 }),
    Pair(id: "combine.kind", says: "of this kind", first: lora, second: loha),
    Pair(id: "combine.kind", says: "of this kind", first: difference, second: lora),
    Pair(
      id: "combine.shape", says: "different models", first: lora,
      second: [
        "lora_unet_q.lora_down.weight": [2, 4], "lora_unet_q.lora_up.weight": [5, 2],
      ]),
    Pair(
      id: "combine.replacements", says: "store the same tensor in full", first: replacement,
      second: replacement),
  ])
  func combinations(_ pair: Pair) throws {
    let adapters = [
      try write(pair.first, to: "a.safetensors"), try write(pair.second, to: "b.safetensors"),
    ]
    let request = CombineRequest(
      adapters: adapters.map { WeightedAdapter($0) }, output: folder("out.safetensors"),
      method: .concat)
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == pair.id, "\(String(describing: error))")
    #expect(error?.kind == (pair.id == "combine.shape" ? .data : .unsupported))
    #expect(error?.what.contains(pair.says) == true)
    #expect(error?.file == adapters[1] && error?.tensor != nil)
    #expect(folder.contents == ["a.safetensors", "b.safetensors"])
  }

  /// A conversion that makes no sense, and what is said of it.
  struct Conversion: CustomTestStringConvertible, Sendable {
    var id: String
    var kind = SurgeryError.Kind.usage
    var adapter: [String: [Int]]
    var output = "out.safetensors"
    var set: @Sendable (inout ConvertRequest) -> Void

    var testDescription: String { id }
  }

  @Test(arguments: [
    Conversion(id: "convert.form", adapter: lora) {
      $0.dialect = .kohya
      $0.metadata = ["a": "b"]
    },
    Conversion(id: "convert.quality", adapter: lora) {
      $0.dialect = .kohya
      $0.quality = .high
    },
    Conversion(id: "convert.ranks", adapter: lora) {
      $0.dialect = .kohya
      $0.ranks.rank = 1
    },
    Conversion(id: "convert.ranks", adapter: lora, output: "out.lra") { $0.ranks.rank = 1 },
    Conversion(id: "convert.base", adapter: dora) {
      $0.dialect = .kohya
      $0.asLowRank = true
      $0.ranks.rank = 1
    },
    Conversion(
      id: "adapter.inexpressible", kind: .unsupported, adapter: lora.merging(difference) { $1 }
    ) {
      $0.dialect = .peft
      $0.base = "base.safetensors"
    },
    Conversion(id: "usage.regex", adapter: lora) {
      $0.renamings = [(try? Renaming("s/(/x/"))].compactMap(\.self)
    },
    Conversion(id: "rank.range", adapter: loha) {
      $0.dialect = .kohya
      $0.asLowRank = true
      $0.ranks.budget = .share(2)
    },
  ])
  func conversions(_ refused: Conversion) throws {
    _ = try write(["q.weight": [6, 4]], to: "base.safetensors")
    let adapter = try write(refused.adapter, to: "a.safetensors")
    var request = ConvertRequest(input: adapter, output: folder(refused.output))
    refused.set(&request)
    request.base = request.base.map { folder($0) }
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == refused.id, "\(String(describing: error))")
    #expect(error?.kind == refused.kind)
    if refused.kind != .usage { #expect(error?.file == adapter && error?.tensor != nil) }
    #expect(folder.contents == ["a.safetensors", "base.safetensors"])
  }

  /// GGUF's names of modules need the model's configuration, which is not where the base was said to be, or is damaged.
  @Test(arguments: [
    (nil, SurgeryError.Kind.missingInput), ("notes.txt", .missingInput), ("config.json", .data),
  ])
  func aBaseOfAConversionThatIsNoModel(_ name: String?, _ kind: SurgeryError.Kind) throws {
    let adapter = try write(Self.lora, to: "a.safetensors")
    let base = folder("base")
    if let name {
      try FileManager.default.createDirectory(atPath: base, withIntermediateDirectories: false)
      try Data(#"{"model_type":"#.utf8).write(to: URL(fileURLWithPath: "\(base)/\(name)"))
    }
    var request = ConvertRequest(input: adapter, output: folder("out.gguf"))
    request.dialect = .gguf
    request.base = base
    let error = surgeryError { _ = try request.run() }
    #expect(error?.kind == kind, "\(String(describing: error))")
    #expect(error?.file?.hasPrefix(base) == true)
    #expect(!folder.contents.contains("out.gguf"))
  }

  @Test func pairsWithoutABaseAreNotResized() throws {
    let adapter = try write(["q.A": [2, 4], "q.B": [6, 2]], to: "a.safetensors")
    var request = ResizeRequest(
      adapter: adapter, output: folder("out.safetensors"), ranks: RankOptions(rank: 1))
    request.adapterOptions.scales = [.init(value: 1)]
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == "adapter.ambiguous-orientation" && error?.kind == .data)
    #expect(error?.file == adapter && error?.tensor == "q.A" && error?.hint != nil)
  }

  /// Equal factors have the same product, whichever is meant; of others only the base tells what they are.
  @Test func pairsWithoutABaseAreComparedByTheirFactors() throws {
    let first = try write(["q.A": [2, 4], "q.B": [6, 2]], to: "a.safetensors")
    let copy = try write(["q.A": [2, 4], "q.B": [6, 2]], to: "b.safetensors")
    let other = try write(["q.A": [6, 2], "q.B": [2, 4]], to: "c.safetensors")
    func request(_ second: String) -> CompareRequest {
      var request = CompareRequest(first, second)
      request.adapterOptions.scales = [.init(value: 1)]
      return request
    }
    let report = try request(copy).run()
    #expect(report.equal && report.modules.map(\.verdict) == [.identical])
    let error = surgeryError { _ = try request(other).run() }
    #expect(error?.id == "adapter.ambiguous-orientation" && error?.kind == .data)
    #expect(error?.file == first && error?.tensor == "q.A")
    #expect(error?.hint == "convert the adapter to PEFT with --base first")
  }

  /// What neither file says is asked of the user, with the file that lacks it.
  @Test func adaptersWithoutAScaleAreNotCompared() throws {
    let names = [
      "base_model.model.q.lora_A.weight": [2, 4], "base_model.model.q.lora_B.weight": [6, 2],
    ]
    let (first, second) = (
      try write(names, to: "a.safetensors"), try write(names, to: "b.safetensors")
    )
    let error = surgeryError { _ = try CompareRequest(first, second).run() }
    #expect(error?.id == "adapter.no-scale" && error?.kind == .data)
    #expect(error?.file == first && error?.hint?.contains("--alpha") == true)
    #expect(error?.tensor == "base_model.model.q.lora_A.weight")
  }
}
