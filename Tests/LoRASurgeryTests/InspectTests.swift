import Checkpoints
import LoRASurgery
import Tensors
import Testing

struct InspectTests {
  @Test func statisticsAreThoseOfTheValues() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(
      [TestTensor(name: "w", shape: [2, 4], values: [1, -2, 3, 0, .nan, .infinity, 0.5, -0.5])],
      to: folder("model.safetensors"))
    let report = try InspectRequest(paths: [folder("model.safetensors")], stats: true).run()
    let stats = try #require(report.files[0].tensors[0].stats)
    #expect(stats.minimum == -2)
    #expect(stats.maximum == 3)
    #expect(stats.mean == 2.0 / 6)
    #expect(stats.norm == (1 + 4 + 9 + 0.25 + 0.25).squareRoot())
    #expect(stats.zeros == 1)
    #expect(stats.nan == 1)
    #expect(stats.infinite == 1)
  }

  @Test func selectionFiltersTheListing() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(TestModels.pair(rank: 1).base, to: folder("model"))
    let report = try InspectRequest(
      paths: [folder("model")], selection: Selection(include: ["layer"], exclude: ["norm"])
    ).run()
    #expect(report.files[0].tensors.map(\.name) == ["layer.0.proj.weight"])
  }

  @Test func aRegularExpressionThatDoesNotParse() throws {
    let error = surgeryError {
      _ = try InspectRequest(paths: ["/"], selection: Selection(include: ["("])).run()
    }
    #expect(error?.id == "usage.regex")
    #expect(error?.kind == .usage)
  }
}

struct CheckTests {
  @Test func valuesThatAreNotFiniteAreProblems() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(
      [
        TestTensor(name: "good", shape: [3], values: [1, 2, 3]),
        TestTensor(name: "bad", shape: [3], values: [1, .nan, -.infinity]),
      ], to: folder("model.safetensors"))
    let report = try CheckRequest(paths: [folder("model.safetensors")]).run()
    #expect(!report.isClean)
    #expect(report.files[0].problems.map(\.tensor) == ["bad"])
    #expect(report.files[0].problems[0].what.contains("element 1"))
  }

  @Test func aSoundFileIsClean() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(TestModels.pair(rank: 1).base, to: folder("model"))
    #expect(try CheckRequest(paths: [folder("model")]).run().isClean)
  }
}
