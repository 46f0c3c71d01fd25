import Adapters
import Foundation
import LoRASurgery
import Tensors
import Testing

/// What the options leave out of an adapter is left out whatever its kind, and the report says so.
struct AdapterSelectionTests {
  private static func models(in folder: TemporaryFolder) throws -> (base: String, tuned: String) {
    var generator = SeededGenerator(7)
    var base: [TestTensor] = []
    for layer in 0..<2 {
      base.append(
        TestTensor(
          name: TensorName("layers.\(layer).proj.weight"), shape: [12, 10],
          values: generator.values(120)))
      base.append(
        TestTensor(
          name: TensorName("layers.\(layer).norm.weight"), shape: [12],
          values: generator.values(12)))
    }
    let tuned = base.map { tensor in
      var tensor = tensor
      tensor.values = zip(tensor.values, generator.values(tensor.values.count)).map(+)
      return tensor
    }
    let paths = (folder("base.safetensors"), folder("tuned.safetensors"))
    try TestModels.write(base, to: paths.0)
    try TestModels.write(tuned, to: paths.1)
    return paths
  }

  private static let changed = ["layers.0.norm.weight", "layers.0.proj.weight"]
  private static let all = changed + ["layers.1.norm.weight", "layers.1.proj.weight"]

  private static func adapter(in folder: TemporaryFolder) throws -> String {
    let (base, tuned) = try models(in: folder)
    var ranks = RankOptions()
    ranks.rank = 2
    _ = try ExtractRequest(base: base, tuned: tuned, output: folder("adapter"), ranks: ranks).run()
    return folder("adapter")
  }

  private static func check(_ report: OperationReport, _ output: String) throws {
    #expect(report.modules.map(\.tensor.text).sorted() == all)
    let leftOut = report.modules.filter { $0.action == .skipped }
    #expect(
      leftOut.map(\.tensor.text).sorted() == ["layers.1.norm.weight", "layers.1.proj.weight"])
    #expect(leftOut.allSatisfy { $0.reason == "not selected" })
    let written = try Adapter(opening: output)
    let names =
      written.modules.map { $0.target.tensorName }
      + written.replacements.map { $0.target.tensorName }
    #expect(names.sorted() == changed)
  }

  @Test(arguments: [Dialect.compact, .peft]) func conversionsLeaveOut(_ dialect: Dialect) throws {
    let folder = try TemporaryFolder()
    let name = dialect == .compact ? "out.lra" : "out"
    var request = ConvertRequest(input: try Self.adapter(in: folder), output: folder(name))
    request.dialect = dialect
    request.selection = Selection(exclude: ["layers.1"])
    try Self.check(try request.run(), folder(name))
  }

  @Test func combiningLeavesOut() throws {
    let folder = try TemporaryFolder()
    let adapter = try Self.adapter(in: folder)
    var other = ConvertRequest(input: adapter, output: folder("other.lra"))
    other.selection = Selection(include: ["proj"])
    _ = try other.run()
    var request = CombineRequest(
      adapters: [
        WeightedAdapter(adapter, weight: 1), WeightedAdapter(folder("other.lra"), weight: 1),
      ],
      output: folder("out"), method: .concat)
    request.selection = Selection(include: ["layers.0"])
    let report = try request.run()
    // The second matrix is left out of both.
    #expect(report.modules.filter { $0.tensor.text == "layers.1.proj.weight" }.count == 2)
    #expect(
      report.modules.filter { $0.action == .full }.map(\.tensor.text) == ["layers.0.norm.weight"])
    #expect(try Adapter(opening: folder("out")).replacements.count == 1)
  }

  @Test func whatTwoAdaptersStoreInFullCanBeLeftOut() throws {
    let folder = try TemporaryFolder()
    let adapter = try Self.adapter(in: folder)
    var request = CombineRequest(
      adapters: [WeightedAdapter(adapter, weight: 1), WeightedAdapter(adapter, weight: 1)],
      output: folder("out"), method: .concat)
    let error = #expect(throws: SurgeryError.self) { try request.run() }
    #expect(error?.id == "combine.replacements")
    #expect(error?.hint?.contains("--exclude") == true)
    request.selection = Selection(exclude: ["norm"])
    #expect(try request.run().modules.filter { $0.action == .skipped }.count == 4)
    #expect(try Adapter(opening: folder("out")).replacements.isEmpty)
  }

  /// A copy and an answer about no tensor are easily taken for results.
  @Test func aSelectionOfNothingIsSaid() throws {
    let folder = try TemporaryFolder()
    try TestModels.writePairAndAdapter(in: folder)
    let nothing = Selection(include: ["no such"])
    var merge = MergeRequest(
      .merge, model: folder("base"), adapters: [WeightedAdapter(folder("adapter"))],
      output: folder("merged"))
    merge.selection = nothing
    #expect(try merge.run().warnings.contains { $0.hasPrefix("--include and --exclude") })
    for (first, second) in [("base", "tuned"), ("adapter", "adapter")] {
      let compare = CompareRequest(folder(first), folder(second), selection: nothing)
      #expect(surgeryError { _ = try compare.run() }?.id == "usage.selection")
    }
  }
}
