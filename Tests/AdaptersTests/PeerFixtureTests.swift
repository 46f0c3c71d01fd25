import Adapters
import Checkpoints
import LinearAlgebra
import Tensors
import Testing

/// Adapters written by the real libraries, against what those libraries merge them to.
struct PeerFixtureTests {
  static let peftCases = Fixtures.folders(in: "peft")

  @Test("PEFT merges are the library's", arguments: peftCases)
  func peft(_ name: String) throws {
    let folder = Fixtures.path("peft/\(name)")
    try expectMerge(
      base: "\(folder)/base", adapter: "\(folder)/adapter",
      merged: "\(folder)/merged.safetensors")
  }

  /// Compares float32 and float64 merges with the peer's; every tensor that the peer changed must be touched.
  private func expectMerge(base: String, adapter: String, merged: String) throws {
    let base = try Checkpoint(opening: base)
    let expected = try Checkpoint(opening: merged)
    let resolved = try Adapter(opening: adapter).resolved(against: base)
    #expect(resolved.unmatched.isEmpty)
    var generator = SeededGenerator(seed: 7)
    let single = try Merging.merged(resolved, as: Float.self, using: &generator)
    let double = try Merging.merged(resolved, as: Double.self, using: &generator)
    for tensor in expected.tensors {
      let wanted = try Merging.widened(tensor)
      let stored = try #require(base[tensor.name], "\(tensor.name)")
      let before = try Merging.widened(stored)
      let limit = 2e-6 * max(wanted.map(\.magnitude).max() ?? 0, 1e-3)
      for found in [single[tensor.name] ?? before, double[tensor.name] ?? before] {
        #expect(Merging.largestDifference(found, wanted) <= limit, "\(tensor.name)")
      }
    }
  }

  @Test("Additive updates say their delta, and what can be undone is undone", arguments: peftCases)
  func undone(_ name: String) throws {
    let folder = Fixtures.path("peft/\(name)")
    let base = try Checkpoint(opening: "\(folder)/base")
    let resolved = try Adapter(opening: "\(folder)/adapter").resolved(against: base)
    var generator = SeededGenerator(seed: 3)
    for tensor in resolved.tensors {
      let weight = tensor.updates.contains { $0.update.algorithm == "hra" } ? 1 : 0.75
      let merged = try Merging.merged(
        tensor, tensor.source, weight: weight, as: Double.self, using: &generator)
      let before = try Merging.widened(tensor.source)
      let updates = tensor.planned(weight: weight)
      for update in updates.map(\.update) {
        let delta = try update.loaded(scale: 1, as: Double.self)
          .delta(rows: 0..<update.rows, columns: 0..<update.columns)
        #expect((delta != nil) == update.isAdditive)
      }
      if tensor.isAdditive {
        var delta = Matrix<Double>(rows: tensor.storedRows, columns: tensor.storedColumns)
        try TensorChange(updates, .merge).addDelta(to: &delta, rows: 0..<tensor.storedRows)
        let sum = zip(before, delta.elements).map { $0 + $1 }
        #expect(Merging.largestDifference(sum, merged) < 1e-12)
      }
      let inverse = try TensorChange<Double>(updates, .unmerge)
      var block = Matrix(
        rows: tensor.storedRows, columns: tensor.storedColumns, elements: merged)
      if tensor.updates.allSatisfy({ $0.update.inversion == .possible }) {
        try inverse.apply(to: &block, rows: 0..<tensor.storedRows)
        #expect(Merging.largestDifference(block.elements, before) < 1e-9, "\(tensor.name)")
      } else {
        #expect(tensor.obstacleToUnmerging != nil)
        #expect(throws: SurgeryError.self) {
          try inverse.apply(to: &block, rows: 0..<tensor.storedRows)
        }
      }
    }
  }
}

/// Adapters of the other dialects, with what their files leave unsaid in options.json.
struct DialectFixtureTests {
  static let cases = Fixtures.folders(in: "others")

  @Test("Other dialects merge as their makers do", arguments: cases)
  func merge(_ name: String) throws {
    let folder = Fixtures.path("others/\(name)")
    let files = Fixtures.folders(in: "others/\(name)")
    let options = try Self.options(folder, files)
    let base = try Checkpoint(
      opening: "\(folder)/\(files.contains("base") ? "base" : "base.safetensors")")
    let adapter = try Adapter(
      opening: "\(folder)/\(files.contains("adapter") ? "adapter" : "adapter.safetensors")",
      options: options)
    let resolved = try adapter.resolved(against: base, options: options)
    var generator = SeededGenerator(seed: 11)
    let single = try Merging.merged(resolved, as: Float.self, using: &generator)
    for tensor in try Checkpoint(opening: "\(folder)/merged.safetensors").tensors {
      let wanted = try Merging.widened(tensor)
      let stored = try #require(base[tensor.name], "\(tensor.name)")
      let found = try single[tensor.name] ?? Merging.widened(stored)
      let limit = 2e-6 * max(wanted.map(\.magnitude).max() ?? 0, 1)
      #expect(Merging.largestDifference(found, wanted) <= limit, "\(tensor.name)")
    }
  }

  static func options(_ folder: String, _ files: [String]) throws -> AdapterOptions {
    var options = AdapterOptions()
    if files.contains("residual") { options.residualBase = "\(folder)/residual" }
    guard files.contains("options.json") else { return options }
    let json = try JSONValue(readingFile: "\(folder)/options.json")
    func module(_ key: String) -> String? { key.isEmpty ? nil : key }
    for member in json["alpha"]?.members ?? [] {
      options.alphas.append(.init(module: module(member.key), value: member.value.double ?? 0))
    }
    for member in json["scale"]?.members ?? [] {
      options.scales.append(.init(module: module(member.key), value: member.value.double ?? 0))
    }
    for member in json["fanInFanOut"]?.members ?? [] {
      options.fanInFanOut.append(.init(module: member.key, value: member.value.flag ?? false))
    }
    for member in json["parts"]?.members ?? [] {
      options.enabledParts.append(
        .init(
          module: member.key, value: (member.value.elements ?? []).map { $0.flag ?? false }))
    }
    return options
  }
}

/// Models whose output head shares the embedding's tensor (dialects.md, section 3.3).
struct TiedEmbeddingTests {
  private func resolved(_ name: String, unties: Bool) throws -> ResolvedAdapter {
    let folder = Fixtures.path("peft/\(name)")
    var options = AdapterOptions()
    options.untiesEmbeddings = unties
    return try Adapter(opening: "\(folder)/adapter")
      .resolved(against: try Checkpoint(opening: "\(folder)/base"), options: options)
  }

  @Test func aHeadMayPartFromItsEmbedding() throws {
    let head = try resolved("tied-head", unties: true)
    #expect(head["model.embed_tokens.weight"]?.updates.isEmpty ?? true)
    #expect(head.additions.map(\.name) == ["lm_head.weight"])
    #expect(head.additions.first?.updates.count == 1)
    let embedding = try resolved("tied-embedding", unties: true)
    #expect(embedding["model.embed_tokens.weight"]?.updates.count == 1)
    #expect(embedding.additions.map(\.name) == ["lm_head.weight"])
    #expect(embedding.additions.first?.updates.isEmpty == true)
  }

  @Test func twinsAreAppliedOnce() throws {
    let twins = try resolved("tied-ensured", unties: false)
    #expect(twins["model.embed_tokens.weight"]?.updates.count == 1)
    #expect(twins.additions.isEmpty)
  }
}
