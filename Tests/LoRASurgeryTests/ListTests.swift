import Checkpoints
import Foundation
import LoRASurgery
import Synchronization
import Tensors
import Testing

struct OutputNamingTests {
  @Test(arguments: [
    (OutputNaming(folder: "out"), "in/a.safetensors", "out/a.safetensors"),
    (OutputNaming(folder: "out/"), "a.npz", "out/a.npz"),
    (OutputNaming(folder: "out"), "a.pt", "out/a.safetensors"),
    (OutputNaming(folder: "out"), "x/model-1.5/", "out/model-1.5"),
    (OutputNaming(folder: "out", format: .npz), "a.b.safetensors", "out/a.b.npz"),
    (OutputNaming(folder: "out", format: .npz), "folder", "out/folder"),
    (OutputNaming(folder: "out", format: .compact), "a.safetensors", "out/a.lra"),
    (OutputNaming(folder: nil, suffix: "-half.safetensors"), "in/a.npz", "in/a-half.safetensors"),
    (OutputNaming(folder: nil, suffix: "-r8"), "in/adapter/", "in/adapter-r8"),
    (OutputNaming(folder: nil, suffix: "-r8"), "adapter", "adapter-r8"),
  ])
  func resultsAreNamedAfterInputs(naming: OutputNaming, input: String, output: String) throws {
    #expect(try naming.outputs(for: [input]) == [output])
  }

  @Test func whatHasNoNameOfItsOwnIsRefused() {
    let naming = OutputNaming(folder: "out", format: .npz)
    #expect(
      surgeryError { _ = try naming.outputs(for: ["a/x.npz", "b/x.safetensors"]) }?.id
        == "output.twice")
    for input in ["", "/", ".", "a/.."] {
      #expect(surgeryError { _ = try naming.outputs(for: [input]) }?.id == "output.name")
    }
    #expect(
      surgeryError { _ = try OutputNaming(folder: "o", suffix: "/../x").outputs(for: ["a.npz"]) }?
        .id
        == "output.name")
  }
}

struct InputListTests {
  @Test func outcomesComeInTheOrderOfTheListAndFailuresStayAlone() throws {
    let list = InputList((0..<40).map { .init(input: "\($0)") })
    let received = Mutex<[String]>([])
    try list.run(Execution(jobs: 4)) { (item, _) throws(SurgeryError) in
      if item.input.hasSuffix("3") { throw SurgeryError(.data, "test", "no threes") }
      return item.input
    } receive: { item, outcome in
      received.withLock {
        switch outcome {
        case .done(let text): $0.append(text)
        case .failed(let error): $0.append("\(item.input) \(error.id)")
        case .skipped: break
        }
      }
    }
    #expect(
      received.withLock { $0 } == (0..<40).map { $0 % 10 == 3 ? "\($0) test" : "\($0)" })
  }

  @Test func anInterruptionEndsTheList() {
    let list = InputList((0..<4).map { .init(input: "\($0)") })
    let failure = surgeryError {
      try list.run(Execution(jobs: 1)) { (_, _) throws(SurgeryError) in
        throw SurgeryError(.interrupted(signal: 15), "interrupted", "stopped")
      } receive: { (_, _: InputList.Outcome<Int>) in
        Issue.record("an outcome after an interruption")
      }
    }
    #expect(failure?.id == "interrupted")
  }

  @Test func workAndMemoryAreShared() throws {
    let list = InputList((0..<2).map { .init(input: "\($0)") })
    try list.run(Execution(jobs: 4, memory: 100)) { (_, execution) throws(SurgeryError) in
      [execution.jobs, execution.memory]
    } receive: { _, outcome in
      guard case .done(let share) = outcome else { return }
      #expect(share == [2, 50])
    }
  }

  @Test func outputsAreRenewedByAge() throws {
    let folder = try TemporaryFolder()
    for (name, age) in [("old", 300.0), ("middle", 200), ("new", 100)] {
      try Data(name.utf8).write(to: URL(fileURLWithPath: folder(name)))
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: folder(name))
    }
    func skips(_ renewal: Renewal, _ input: String, _ output: String) -> Bool {
      renewal.reasonToSkip(folder(input), folder(output)) != nil
    }
    #expect(skips(.newer, "old", "new"))
    #expect(!skips(.newer, "new", "middle"))
    #expect(skips(.newer, "middle", "middle"))
    #expect(!skips(.newer, "new", "none"))
    #expect(skips(.missing, "new", "old"))
    #expect(!skips(.missing, "new", "none"))
    #expect(!skips(.always, "old", "new"))
  }

  @Test func aPartOfTheListIsChosenBySize() throws {
    let folder = try TemporaryFolder()
    var items: [InputList.Item] = []
    for size in [100, 60, 50, 10] {
      try Data(count: size).write(to: URL(fileURLWithPath: folder("\(size)")))
      items.append(.init(input: folder("\(size)")))
    }
    let list = InputList(items)
    #expect(list.share(of: try Part(1, of: 2)).items == [items[0], items[3]])
    #expect(list.share(of: try Part(2, of: 2)).items == [items[1], items[2]])
  }
}
