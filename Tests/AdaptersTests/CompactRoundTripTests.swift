import Adapters
import Checkpoints
import Foundation
import LinearAlgebra
import LoRASurgery
import Tensors
import Testing

/// Adapters through compact files and back.
struct CompactRoundTripTests {
  static let all =
    Fixtures.folders(in: "peft").map { "peft/\($0)" }
    + Fixtures.folders(in: "others").map { "others/\($0)" }
  /// Fixtures whose factors are only understood beside their base.
  static let unsolved = all.filter { name in
    let adapter = try? Adapter(opening: path(of: name))
    return adapter?.modules.contains { $0.update is UnsolvedPair } ?? false
  }
  /// Those that can be read alone.
  static let fixtures = all.filter {
    !unsolved.contains($0) && (try? Adapter(opening: path(of: $0))) != nil
  }

  @Test("What only a base orients is refused, not guessed", arguments: unsolved)
  func refused(_ name: String) throws {
    let workshop = try CompactWorkshop()
    let adapter = try Adapter(opening: Self.path(of: name))
    #expect {
      try workshop.write(adapter)
    } throws: {
      let error = $0 as? SurgeryError
      return error?.id == "adapter.ambiguous-orientation"
        && error?.hint?.contains("--base") == true
    }
  }

  @Test(
    "Merged from a compact file, every adapter does what its maker's library does",
    arguments: all.filter { !Fixtures.folders(in: $0).contains("residual") })
  func merged(_ name: String) throws {
    let folder = Fixtures.path(name)
    let files = Fixtures.folders(in: name)
    let options = try DialectFixtureTests.options(folder, files)
    let base = try Checkpoint(
      opening: "\(folder)/\(files.contains("base") ? "base" : "base.safetensors")")
    let workshop = try CompactWorkshop()
    let adapter = try Adapter(opening: Self.path(of: name), options: options)
    let solved = try adapter.resolved(against: base, options: options).withPairsSolved
    let back = try Adapter(opening: try workshop.write(solved))
    var own = AdapterOptions()
    // How targets are stored is the base's affair, which no adapter records tensor by tensor.
    own.fanInFanOut = options.fanInFanOut
    let resolved = try back.resolved(against: base, options: own)
    #expect(resolved.unmatched.isEmpty)
    var generator = SeededGenerator(seed: 11)
    let found = try Merging.merged(resolved, as: Float.self, using: &generator)
    for tensor in try Checkpoint(opening: "\(folder)/merged.safetensors").tensors {
      let wanted = try Merging.widened(tensor)
      let stored = try #require(base[tensor.name], "\(tensor.name)")
      let values = try found[tensor.name] ?? Merging.widened(stored)
      let limit = 2e-6 * max(wanted.map(\.magnitude).max() ?? 0, 1)
      #expect(Merging.largestDifference(values, wanted) <= limit, "\(tensor.name)")
    }
  }

  @Test("Every dialect's adapters come back bit for bit", arguments: fixtures)
  func fixture(_ name: String) throws {
    let workshop = try CompactWorkshop()
    let adapter = try Adapter(opening: Self.path(of: name))
    let back = try Adapter(opening: try workshop.write(adapter))
    #expect(back.provenance.dialect == .compact)
    #expect(back.provenance.compact?.origin == adapter.provenance.dialect)
    try expectEqual(back, adapter)
    // A compact file of a compact file is the same file.
    let again = try workshop.write(back, as: "b.lra")
    let first = try Data(contentsOf: URL(fileURLWithPath: workshop.folder.path("a.lra")))
    #expect(try Data(contentsOf: URL(fileURLWithPath: again)) == first)
    try CompactHeader.verify(try InputFile(again))
  }

  private static func path(of name: String) -> String {
    let folder = Fixtures.folders(in: name)
    let adapter = folder.first { $0.hasPrefix("adapter") } ?? "adapter"
    return Fixtures.path("\(name)/\(adapter)")
  }

  private func expectEqual(_ back: Adapter, _ adapter: Adapter) throws {
    #expect(back.provenance.metadata == adapter.provenance.metadata)
    #expect(back.provenance.config == adapter.provenance.config)
    #expect(back.provenance.baseName == adapter.provenance.baseName)
    #expect(back.fanInFanOut == adapter.fanInFanOut)
    try #require(back.modules.count == adapter.modules.count)
    for (found, wanted) in zip(back.modules, adapter.modules) {
      #expect(found.name == wanted.name)
      #expect(found.target == wanted.target)
      #expect(found.scale == wanted.scale)
      #expect(found.alpha == wanted.alpha)
      #expect(found.isOptional == wanted.isOptional)
      #expect(found.extraction == wanted.extraction)
      #expect(found.repetitions == wanted.repetitions)
      #expect(found.update.algorithm == wanted.update.algorithm)
      #expect(found.update.rank == wanted.update.rank)
      #expect(type(of: found.update) == type(of: wanted.update))
      for (left, right) in zip(found.update.factors, wanted.update.factors) {
        #expect(left.tensor.name == right.tensor.name)
        #expect(left.tensor.info.shape == right.tensor.info.shape)
        #expect(left.dtype == right.dtype)
        #expect(left.rows == right.rows && left.columns == right.columns)
        #expect(try left.bytes() == right.bytes())
      }
    }
    try #require(back.replacements.count == adapter.replacements.count)
    for (found, wanted) in zip(back.replacements, adapter.replacements) {
      #expect(found.target == wanted.target && found.reason == wanted.reason)
      #expect(found.tensor.info == wanted.tensor.info)
      #expect(try found.tensor.bytes() == wanted.tensor.bytes())
    }
  }

  @Test(
    "Any bits of any dtype come back",
    arguments: [DType.f32, .f16, .bf16, .f64, .f8e4m3, .f8e5m2])
  func bits(_ dtype: DType) throws {
    var generator = SeededGenerator(seed: 5)
    let workshop = try CompactWorkshop()
    var modules: [(String, any Update, Double)] = []
    for size in [(1, 1, 1), (7, 3, 2), (64, 33, 8), (513, 700, 4)] {
      let up = try workshop.noise("up\(size)", [size.0, size.2], dtype, &generator)
      let down = try workshop.gaussian("down\(size)", [size.2, size.1], dtype, &generator)
      modules.append(("m\(size.0)", try LowRank(up: Factor(up), down: Factor(down)), 0.5))
    }
    let zero = try workshop.tensor("z", [300, 300], dtype, [Double](repeating: 0, count: 90000))
    modules.append(("z", try FullDifference(Factor(zero)), 1))
    let adapter = workshop.adapter(modules)
    try expectEqual(try Adapter(opening: try workshop.write(adapter)), adapter)
  }

  @Test("What is known of an extraction comes back")
  func extraction() throws {
    var generator = SeededGenerator(seed: 6)
    let workshop = try CompactWorkshop()
    let (up, down) = (
      try workshop.gaussian("u", [6, 2], .bf16, &generator),
      try workshop.gaussian("d", [2, 5], .bf16, &generator)
    )
    var adapter = workshop.adapter([("m", try LowRank(up: Factor(up), down: Factor(down)), 1)])
    adapter.modules[0].extraction = ExtractionFacts(deltaNorm: 1.25, residualNorm: 0.1)
    adapter.provenance.command = "extract --rank 2"
    let back = try Adapter(opening: try workshop.write(adapter) { $0.tool = "test 1" })
    try expectEqual(back, adapter)
    #expect(back.provenance.command == "extract --rank 2")
    #expect(back.provenance.compact?.tool == "test 1")
  }

  @Test("A tensor of several pages is read in any order")
  func pages() throws {
    var generator = SeededGenerator(seed: 9)
    let workshop = try CompactWorkshop()
    let tensor = try workshop.gaussian("t", [1100, 512], .bf16, &generator)
    let path = try workshop.write(
      workshop.adapter([("m", try FullDifference(Factor(tensor)), 1)]))
    let file = try TensorFile(opening: path)
    let stored = try #require(file.tensors.first)
    let wanted = try tensor.bytes()
    var reader = try stored.source.makeReader()
    for _ in 0..<40 {
      let start = Int.random(in: 0..<wanted.count, using: &generator)
      let count = Int.random(in: 0...min(900_000, wanted.count - start), using: &generator)
      var found = [UInt8](repeating: 0, count: count)
      try found.withMutableRawSpan(0..<count) { (target) throws(SurgeryError) in
        try reader.read(at: start, into: &target)
      }
      #expect(found[...] == wanted[start..<(start + count)])
    }
  }

  @Test("Back in its dialect, an adapter is what it is without the way round", arguments: fixtures)
  func back(_ name: String) throws {
    let workshop = try CompactWorkshop()
    let adapter = try Adapter(opening: Self.path(of: name))
    let compact = try Adapter(opening: try workshop.write(adapter))
    let dialect = adapter.provenance.dialect
    func written(_ adapter: Adapter, _ name: String) throws -> [String: Data] {
      let folder = workshop.folder.path(name)
      var path = folder
      if dialect != .peft {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        path += "/x.safetensors"
      }
      try adapter.plan(to: path, options: AdapterWritingOptions(dialect: dialect)).write(
        replacing: false, inputs: [], Execution())
      var files: [String: Data] = [:]
      for file in try FileManager.default.contentsOfDirectory(atPath: folder) {
        files[file] = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(file)"))
      }
      return files
    }
    let straight: [String: Data]
    do {
      straight = try written(adapter, "straight")
    } catch let error as SurgeryError {
      // What the dialect's writer refuses, it refuses either way.
      #expect {
        try written(compact, "round")
      } throws: { ($0 as? SurgeryError)?.id == error.id }
      return
    }
    #expect(try written(compact, "round") == straight)
  }

  @Test("A base with other values is refused, one in another dtype is not")
  func fingerprint() throws {
    let folder = Fixtures.path("peft/lora-linear")
    let workshop = try CompactWorkshop()
    let base = try Checkpoint(opening: "\(folder)/base")
    var adapter = try Adapter(opening: "\(folder)/adapter")
    let names = try adapter.resolved(against: base).tensors.map(\.name)
    adapter.provenance.base = try BaseFingerprint(of: base, tensors: names)
    let back = try Adapter(opening: try workshop.write(adapter))
    #expect(back.provenance.base == adapter.provenance.base)
    _ = try back.resolved(against: base)
    let merged = try Checkpoint(opening: "\(folder)/merged.safetensors")
    #expect {
      try back.resolved(against: merged)
    } throws: { ($0 as? SurgeryError)?.id == "adapter.wrong-base" }
    var options = AdapterOptions()
    options.allowsOtherBase = true
    _ = try back.resolved(against: merged, options: options)
  }
}
