import Foundation
import Testing

/// `batch` with the commands as they are, as a pipeline would run it.
struct BatchCommandTests {
  private let folder: TemporaryFolder
  private let base = Command.fixture("demo/base")

  init() throws {
    folder = try TemporaryFolder()
    for name in ["base", "tuned"] {
      try FileManager.default.copyItem(
        atPath: Command.fixture("demo/\(name)"), toPath: folder(name))
    }
  }

  private func write(_ text: String, to name: String = "recipe.yaml") throws -> String {
    try text.write(toFile: folder(name), atomically: true, encoding: .utf8)
    return folder(name)
  }

  private func statuses(_ run: Command) throws -> [String] {
    try #require(try run.json()["jobs"] as? [[String: Any]]).compactMap { $0["status"] as? String }
  }

  /// The words of a recipe ask for the bytes that the same words of the command line give.
  @Test func fieldsAreTheWordsOfTheCommandLine() throws {
    let recipe = try write(
      """
      defaults: { jobs: 1, memory: 64M, dtype: f32, others: skip }
      jobs:
        - extract: { base: base/, tuned: tuned, rank-for: { mlp: 2 }, rank: 4, output: adapters/one }
        - merge:
            base: base
            adapters: [adapters/one, { path: adapters/one, weight: -0.5 }]
            include: [proj, 'layers\\.[0-9]{1,2}\\.']
            allow-overflow: true
            output: merged
        - verify: { base: base, adapter: adapters/one, merged: merged, exclude: . }
        - convert: { input: merged, output: merged.npz, dtype: ~ }
      """)
    let run = try Command("batch", recipe, "--json", "--quiet")
    #expect(run.status == 0, "\(run.errors)")
    #expect(try statuses(run) == ["done", "done", "done", "done"])
    #expect(run.errors.isEmpty)

    _ = try Command(
      "extract", "--base", folder("base"), "--tuned", folder("tuned"), "-o", folder("alone"),
      "--rank", "4", "--rank-for", "mlp=2", "--dtype", "f32", "--others", "skip", "-q")
    let alone = folder("alone/adapter_model.safetensors")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: alone))
        == Data(
          contentsOf: URL(fileURLWithPath: folder("adapters/one/adapter_model.safetensors"))))
    _ = try Command(
      "merge", folder("base"), folder("alone"), folder("alone") + ":-0.5", "-o", folder("other"),
      "--include", "proj", "--include", "layers\\.[0-9]{1,2}\\.", "--dtype", "f32", "-q")
    #expect(try Command("compare", folder("other"), folder("merged")).status == 0)

    let again = try Command("batch", recipe, "--json")
    #expect(try statuses(again).allSatisfy { $0 == "unchanged" })
    #expect(again.errors.contains("4 of 4 jobs need not run"))
  }

  @Test(arguments: [
    ("extract: { base: base, tuned: tuned, rnak: 4, output: o }", "did you mean \"rank\"?"),
    ("extract: { base: base, tuned: tuned, rank: many, output: o }", "'many' is invalid"),
    ("extract: { base: base, tuned: tuned, rank: [4, 8], output: o }", "takes one value"),
    ("extract: { base: base, tuned: tuned, rank: 4 }", "--output"),
    ("convert: { input: base, output: o.npz, force: 1 }", "true or false"),
    ("convert: { input: base, output: o.npz, dry-run: true }", "--dry-run to batch itself"),
    ("merge: { base: base, adapters: [{ paht: a }], output: o }", "did you mean \"path\"?"),
    ("merge: { base: base, adapter: a, adapters: [b], output: o }", "already"),
    ("convert: { input: base, output: ~ }", "--output"),
    ("convert: { input: base, output: '-' }", "cannot write to standard output"),
    ("convert: { input: base, output: o.npz, dtype: { a: b } }", "one value, not a mapping"),
    ("convert: { input: base, output: o.npz, include: [[a]] }", "texts and numbers"),
    ("convert: { input: base, output: o.npz, rename: s/a }", "found s/a"),
    ("convert: { input: [base, tuned], output: o.npz }", "for-each takes many"),
    ("resize: { adapter: [base, tuned], output: o, rank: 2 }", "for-each takes many"),
    ("merge: { base: base, adapters: [{ path: [a] }], output: o }", "path takes a text"),
    ("merge: { base: base, adapters: [{ path: a, weight: heavy }], output: o }", "found heavy"),
    ("merge: { base: base, adapters: [{ weight: 2 }], output: o }", "without a path"),
  ])
  func aWrongFieldIsNamedWithItsPlace(job: String, says: String) throws {
    let run = try Command("batch", try write("jobs:\n  - check: { paths: base }\n  - \(job)\n"))
    #expect(run.status == 65, "\(run.errors)")
    #expect(run.errors.contains("recipe.yaml: line 3, column "), "\(run.errors)")
    #expect(run.errors.contains(says), "\(run.errors)")
    #expect(run.output.isEmpty)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        == ["base", "recipe.yaml", "tuned"])
  }

  @Test func aSecondCommandInOneJob() throws {
    let run = try Command(
      "batch", try write("jobs:\n  - check: { paths: base }\n    inspect: { paths: base }\n"))
    #expect(run.status == 65)
    #expect(run.errors.contains("line 3, column 5: a second command"), "\(run.errors)")
    #expect(run.errors.contains("found check and inspect [recipe.commands]"), "\(run.errors)")
  }

  @Test func aWordInDefaultsThatNoCommandKnows() throws {
    let run = try Command(
      "batch", try write("defaults: { memroy: 1G }\njobs:\n  - check: { paths: base }\n"))
    #expect(run.status == 65)
    #expect(run.errors.contains("did you mean \"memory\"?"), "\(run.errors)")
  }

  @Test func statusesOfFailures() throws {
    #expect(try Command("batch", folder("nothing.yaml")).status == 66)
    let missing = try write("jobs:\n  - convert: { input: nothing, output: o.npz }\n")
    #expect(try Command("batch", missing).status == 66)
    let answer = try write(
      """
      jobs:
        - compare: { first: base, second: tuned }
        - convert: { input: base, output: o.npz }
      """)
    let going = try Command("batch", answer, "--keep-going", "--jobs", "1", "--json")
    #expect(going.status == 1)
    #expect(try statuses(going) == ["failed", "done"])
    let stopping = try Command("batch", answer, "--jobs", "1", "--json")
    #expect(stopping.status == 1)
    #expect(try statuses(stopping) == ["failed", "unchanged"])
    try FileManager.default.removeItem(atPath: folder("o.npz"))
    #expect(
      try statuses(Command("batch", answer, "--jobs", "1", "--json")) == ["failed", "skipped"])
  }

  /// Killed at any time, the next run does what is left, and everything is as without the kill.
  @Test func killedAtAnyTime() throws {
    try FileManager.default.createDirectory(
      atPath: folder("in"), withIntermediateDirectories: false)
    for index in 0..<12 {
      try FileManager.default.copyItem(
        atPath: folder("base/model.safetensors"), toPath: folder("in/\(index).safetensors"))
    }
    let recipe = try write(
      """
      jobs:
        - convert: { for-each: in/*.safetensors, input: "{path}", output: "out/{stem}.npz" }
        - extract: { base: base, tuned: tuned, rank: 2, output: adapter }
        - merge: { base: base, adapters: adapter, output: merged }
      """)
    for delay in [0, 0.05, 0.1, 0.2, 0.3] {
      let process = try Command.start("batch", recipe, "--quiet")
      Thread.sleep(forTimeInterval: delay)
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      let written = ((try? FileManager.default.contentsOfDirectory(atPath: folder("out"))) ?? [])
        .filter { !$0.hasPrefix(".") }.map { folder("out/\($0)") }
      if !written.isEmpty {
        #expect(try Command(words: ["check", "-q"] + written).status == 0)
      }
    }
    let last = try Command("batch", recipe, "--json")
    #expect(last.status == 0, "\(last.errors)")
    #expect(try statuses(last).count == 14)
    #expect(
      try Command("compare", folder("out/7.npz"), folder("in/7.safetensors"), "-q").status == 0)
    #expect(try statuses(Command("batch", recipe, "--json")).allSatisfy { $0 == "unchanged" })
  }

  @Test func aSignalLetsTheNextRunGoOn() throws {
    let recipe = try write(
      "jobs: [{convert: {for-each: [1, 2, 3, 4, 5, 6, 7, 8, 9], input: base, output: '{path}.npz'}}]"
    )
    let process = try Command.start("batch", recipe)
    Thread.sleep(forTimeInterval: 0.1)
    process.interrupt()
    process.waitUntilExit()
    // It may have been quicker than the signal.
    #expect(
      process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGINT
        || process.terminationStatus == 0)
    #expect(try Command("batch", recipe).status == 0)
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(!names.contains { $0.hasSuffix(".part") })
  }

  /// The example of the man page is a recipe that runs.
  @Test func theExampleOfTheManPage() throws {
    let page = try String(
      contentsOfFile: Command.fixture("../man/lora-surgery-recipe.5"), encoding: .utf8)
    let example = try #require(
      page.components(separatedBy: ".Bd -literal\n").dropFirst().first?
        .components(separatedBy: "\n.Ed").first)
    let recipe = try write(example.replacingOccurrences(of: "\\e", with: "\\"))
    try FileManager.default.createDirectory(
      atPath: folder("in"), withIntermediateDirectories: false)
    for name in ["one", "two"] {
      try FileManager.default.copyItem(
        atPath: folder("base/model.safetensors"), toPath: folder("in/\(name).safetensors"))
    }
    let run = try Command("batch", recipe)
    #expect(run.status == 0, "\(run.errors)")
    #expect(FileManager.default.fileExists(atPath: folder("out/one.npz")))
    #expect(try Command("batch", recipe, "--dry-run").output.contains("unchanged"))
  }
}
