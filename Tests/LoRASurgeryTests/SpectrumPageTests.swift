import Checkpoints
import Foundation
import Testing

@testable import LoRASurgery
@testable import Tensors

@Suite struct SpectrumPageTests {
  private static let hostile =
    "layers.0.</script><img src=x onerror=alert(1)>\"'&\u{202E}\u{2028}<!--.weight"

  private func pair(in folder: TemporaryFolder) throws -> SpectrumRequest {
    var (base, tuned) = TestModels.pair(rank: 3)
    base[0].name = TensorName(Self.hostile)
    tuned[0].name = TensorName(Self.hostile)
    try TestModels.write(base, to: folder("base.safetensors"))
    try TestModels.write(tuned, to: folder("tuned.safetensors"))
    var request = SpectrumRequest(
      base: folder("base.safetensors"), tuned: folder("tuned.safetensors"))
    request.html = folder("page.html")
    return request
  }

  @Test func aHostileNameStaysText() throws {
    let folder = try TemporaryFolder()
    let request = try pair(in: folder)
    #expect(try request.run().html == folder("page.html"))
    let page = try String(contentsOfFile: folder("page.html"), encoding: .utf8)
    #expect(!page.contains("<img"))
    #expect(!page.contains("<!--"))
    #expect(!page.unicodeScalars.contains("\u{202E}"))
    #expect(page.components(separatedBy: "</script>").count == 3)
    #expect(!page.contains("http:") || page.components(separatedBy: "http:").count == 2)
    #expect(!page.contains("innerHTML"))

    let start = try #require(page.range(of: "id=\"data\">"))
    let end = try #require(page.range(of: "</script>", range: start.upperBound..<page.endIndex))
    let data = try JSONValue(parsing: Array(page[start.upperBound..<end.lowerBound].utf8))
    #expect(
      data["matrices"]?.elements?.first?["name"]?.text
        == DisplayText.escaped(Self.hostile, limit: 400))
  }

  @Test func theSamePairGivesTheSamePageWhateverTheThreads() throws {
    let folder = try TemporaryFolder()
    var request = try pair(in: folder)
    _ = try request.run(Execution(jobs: 1))
    request.html = folder("again.html")
    _ = try request.run(Execution(jobs: 2))
    let pages = try ["page.html", "again.html"].map {
      try Data(contentsOf: URL(fileURLWithPath: folder($0)))
    }
    #expect(pages[0] == pages[1])
  }

  @Test func anExistingPageIsRefusedUnlessForced() throws {
    let folder = try TemporaryFolder()
    var request = try pair(in: folder)
    try Data("mine".utf8).write(to: URL(fileURLWithPath: folder("page.html")))
    #expect(surgeryError { _ = try request.run() }?.id == "output.exists")
    #expect(try String(contentsOfFile: folder("page.html"), encoding: .utf8) == "mine")
    request.force = true
    _ = try request.run()
    #expect(folder.contents == ["base.safetensors", "page.html", "tuned.safetensors"])
  }
}
