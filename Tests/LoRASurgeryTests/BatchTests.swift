import Foundation
import LoRASurgery
import Tensors
import Testing
import YAML

/// A job that writes a file; what it does is up to the test.
private struct Writing: BatchOperation {
  var inputs: [String] = []
  var output = ""
  var force = false
  var work: @Sendable (Execution) throws(SurgeryError) -> Void = { _ throws(SurgeryError) in }

  mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    for index in inputs.indices { visit(.input, &inputs[index]) }
    visit(.output, &output)
  }

  func perform(_ execution: Execution) throws(SurgeryError) -> BatchOutcome {
    try work(execution)
    guard force || !FileManager.default.fileExists(atPath: output) else {
      throw SurgeryError(.outputRefused, "output.exists", "the output exists", file: output)
    }
    // By rename, so that what is there has another inode than before.
    do {
      try Data(inputs.joined().utf8).write(to: URL(fileURLWithPath: output), options: .atomic)
    } catch { throw SurgeryError(.io, "io.write", "\(error)", file: output) }
    return BatchOutcome()
  }
}

/// Collects what happens from several threads.
private final class Log: @unchecked Sendable {
  private let lock = NSLock()
  private var lines: [String] = []
  func add(_ line: String) { lock.withLock { lines.append(line) } }
  var all: [String] { lock.withLock { lines } }
}

/// Recipes of jobs called `write`, with `input` (one or several), `output` and any other field as an option.
private struct Kitchen {
  let folder: TemporaryFolder
  let log = Log()

  init() throws { folder = try TemporaryFolder() }

  func write(_ name: String, _ text: String) throws {
    try text.write(toFile: folder(name), atomically: true, encoding: .utf8)
  }

  func batch(_ recipe: String) throws -> Batch {
    try write("recipe.yaml", recipe)
    return Batch(try Recipe(reading: folder("recipe.yaml"), commands: ["write"]))
  }

  @discardableResult
  func run(
    _ recipe: String, jobs: Int = 1, keepsGoing: Bool = false, force: Bool = false,
    dryRun: Bool = false,
    work: @escaping @Sendable (String, Execution) throws(SurgeryError) -> Void = {
      (_, _) throws(SurgeryError) in
    }
  ) throws -> BatchReport {
    var batch = try batch(recipe)
    (batch.keepsGoing, batch.force, batch.dryRun) = (keepsGoing, force, dryRun)
    let log = log
    let (report, failure) = try batch.run(
      Execution(jobs: jobs, memory: 1000),
      decoding: { (call) throws(SurgeryError) in
        let output = Self.texts("output", call).first ?? ""
        return BatchCall(
          words: [call.command]
            + call.fields.flatMap { field in
              Self.texts(field.name, call).map { "\(field.name)=\($0)" }
            }
        ) {
          Writing(
            inputs: Self.texts("input", call), output: output,
            work: { (execution) throws(SurgeryError) in
              log.add(output)
              try work(output, execution)
            })
        }
      })
    if !keepsGoing, case .error(let error) = failure { throw error }
    return report
  }

  private static func texts(_ name: String, _ call: RecipeCall) -> [String] {
    call.fields.filter { $0.name == name }.flatMap { field in
      field.value.elements?.compactMap(\.text) ?? [field.value.text ?? ""]
    }
  }
}

extension BatchReport {
  fileprivate var statuses: [BatchJobReport.Status] { jobs.map(\.status) }
}

struct BatchOrderTests {
  @Test func aJobComesAfterWhatItReads() throws {
    let kitchen = try Kitchen()
    try kitchen.write("a", "")
    try kitchen.run(
      """
      jobs:
        - write: { input: c, output: d }
        - write: { input: b/inside, output: c }
        - name: first
          write: { input: a, output: b }
      """, jobs: 3, keepsGoing: true)
    #expect(kitchen.log.all == ["b", "c", "d"])
  }

  @Test func namedNeeds() throws {
    let kitchen = try Kitchen()
    let report = try kitchen.run(
      "jobs: [{needs: z, write: {output: a}}, {name: z, write: {for-each: [y, x], output: '{path}'}}]"
    )
    #expect(kitchen.log.all == ["y", "x", "a"])
    #expect(report.jobs.map(\.name) == ["write 1", "z (y)", "z (x)"])
  }

  @Test func jobsThatReadOneLargeInputStandTogether() throws {
    let kitchen = try Kitchen()
    try kitchen.write("big1", String(repeating: "x", count: 5000))
    try kitchen.write("big2", String(repeating: "x", count: 5000))
    try kitchen.write("small", "x")
    let lines = (1...6).map {
      "  - write: { input: [small, big\(1 + $0 % 2)], output: o\($0) }"
    }
    try kitchen.run("jobs:\n" + lines.joined(separator: "\n"))
    #expect(kitchen.log.all == ["o1", "o3", "o5", "o2", "o4", "o6"])
  }

  @Test func aCircleIsNamed() throws {
    let kitchen = try Kitchen()
    let error = try #require(
      surgeryError {
        try kitchen.run(
          """
          jobs:
            - name: first
              write: { input: c, output: a }
            - name: second
              write: { input: a, output: b }
            - name: third
              write: { input: b, output: c }
          """)
      })
    #expect(error.id == "recipe.cycle")
    #expect(
      error.found == "\"first\" needs \"third\" needs \"second\" needs \"first\"", "\(error)")
    #expect(kitchen.folder.contents == ["recipe.yaml"])
  }

  /// Threads and memory of the jobs that run side by side never exceed the whole.
  @Test func sharesAddUpToTheWhole() throws {
    let kitchen = try Kitchen()
    let used = Log()
    try kitchen.run(
      "jobs: [{write: {for-each: [a, b, c, d, e, f, g], output: '{path}'}}]", jobs: 4
    ) { (_, execution) throws(SurgeryError) in
      used.add("\(execution.jobs) \(execution.memory)")
      usleep(2000)
    }
    #expect(used.all.count == 7)
    #expect(used.all.filter { $0 == "1 250" }.count >= 4, "\(used.all)")
    let alone = Log()
    try kitchen.run("jobs: [{write: {output: z}}]", jobs: 4) {
      (_, execution) throws(SurgeryError) in
      alone.add("\(execution.jobs) \(execution.memory)")
    }
    #expect(alone.all == ["4 1000"])
  }
}

struct BatchResumeTests {
  private let recipe =
    "jobs: [{write: {input: a, output: b}}, {write: {input: b, output: c}}, {write: {output: d}}]"

  @Test func whatIsFinishedDoesNotRunAgain() throws {
    let kitchen = try Kitchen()
    try kitchen.write("a", "1")
    #expect(try kitchen.run(recipe).statuses == [.done, .done, .done])
    let files = kitchen.folder.contents
    #expect(try kitchen.run(recipe).statuses == [.unchanged, .unchanged, .unchanged])
    #expect(kitchen.folder.contents == files)

    try kitchen.write("a", "2")
    let changed = try kitchen.run(recipe)
    #expect(changed.statuses == [.done, .done, .unchanged])
    #expect(changed.jobs[0].reason == "input a changed")
    #expect(changed.jobs[1].reason == "write 1 runs before it")

    try FileManager.default.removeItem(atPath: kitchen.folder("d"))
    #expect(try kitchen.run(recipe).jobs[2].reason == "output d is missing")

    let other = recipe.replacingOccurrences(of: "output: d", with: "output: d, rank: 4")
    let options = try kitchen.run(other)
    #expect(options.statuses == [.unchanged, .unchanged, .done])
    #expect(options.jobs[2].reason == "options changed: rank=4")
    // What the options were before is no longer what lies there.
    #expect(try kitchen.run(recipe).statuses == [.unchanged, .unchanged, .done])
  }

  @Test func aFailureLeavesTheOthersFinished() throws {
    let kitchen = try Kitchen()
    try kitchen.write("a", "1")
    let full = SurgeryError(.io, "output.no-space", "no space")
    let report = try kitchen.run(recipe, keepsGoing: true) { (output, _) throws(SurgeryError) in
      if output == "b" { throw full }
    }
    #expect(report.statuses == [.failed, .skipped, .done])
    #expect(report.jobs[0].error?.id == "output.no-space")
    #expect(report.jobs[1].reason == "needs write 1")
    let again = try kitchen.run(recipe)
    #expect(again.statuses == [.done, .done, .unchanged])
    #expect(again.jobs[0].reason == "not finished by an earlier run")
  }

  /// What a kill may leave of the state file, with all outputs there.
  @Test func aTornStateFile() throws {
    for tenth in 1...10 {
      let kitchen = try Kitchen()
      try kitchen.write("a", "1")
      try kitchen.run(recipe)
      let state = URL(fileURLWithPath: kitchen.folder("recipe.yaml.state.jsonl"))
      let whole = try Data(contentsOf: state)
      // The line that says what is begun is flushed before anything is written.
      let lines = whole.split(separator: UInt8(ascii: "\n"))
      let least = lines[0].count + lines[1].count + 2
      try whole[..<(least + (whole.count - least) * tenth / 10)].write(to: state)
      let report = try kitchen.run(recipe)
      #expect(report.warnings.isEmpty)
      #expect(report.totals.done + report.totals.unchanged == 3)
      #expect(tenth < 10 || report.totals.unchanged == 3)
      #expect(try kitchen.run(recipe).totals.unchanged == 3)
    }
  }

  @Test(arguments: [
    ("garbage\n", "line 1 is damaged"),
    ("{\"lora-surgery\":\"batch state\",\"format\":9}\n", "another version"),
    ("\u{0}\u{0}\u{0}", "line 1 is damaged"),
  ])
  func aStateThatCannotBeContinuedIsSetAside(text: String, says: String) throws {
    let kitchen = try Kitchen()
    try kitchen.write("a", "1")
    try kitchen.run(recipe)
    try kitchen.write("recipe.yaml.state.jsonl", text)
    let report = try kitchen.run(recipe)
    #expect(report.statuses == [.done, .done, .done])
    #expect(report.warnings.count == 1 && report.warnings[0].contains(says), "\(report.warnings)")
    #expect(report.warnings[0].contains("set aside as"))
    #expect(
      try String(contentsOfFile: kitchen.folder("recipe.yaml.state.jsonl.1"), encoding: .utf8)
        == text)
    #expect(try kitchen.run(recipe).totals.unchanged == 3)
  }

  @Test func anOutputOfOthersIsRefused() throws {
    let kitchen = try Kitchen()
    try kitchen.write("a", "1")
    try kitchen.write("d", "precious")
    let error = try #require(surgeryError { try kitchen.run(recipe) })
    #expect(error.id == "output.exists" && error.kind == .outputRefused)
    #expect(try String(contentsOfFile: kitchen.folder("d"), encoding: .utf8) == "precious")
    #expect(kitchen.folder.contents == ["a", "d", "recipe.yaml"])
    #expect(try kitchen.run(recipe, keepsGoing: true).statuses == [.done, .done, .failed])
    #expect(try kitchen.run(recipe, force: true).statuses == [.unchanged, .unchanged, .done])
    // Ours, and then changed by somebody.
    try kitchen.write("d", "edited")
    #expect(surgeryError { try kitchen.run(recipe) }?.id == "output.exists")
  }

  @Test func aSecondRunAtTheSameTimeIsRefused() throws {
    let kitchen = try Kitchen()
    let seen = Log()
    try kitchen.run("jobs: [{write: {output: a}}]") { (_, _) throws(SurgeryError) in
      let other = surgeryError { try kitchen.run("jobs: [{write: {output: q}}]") }
      seen.add(other?.id ?? "ran")
    }
    #expect(seen.all == ["journal.busy"])
  }

  @Test func aDryRunSaysWhatWouldRun() throws {
    let kitchen = try Kitchen()
    try kitchen.write("a", String(repeating: "1", count: 700))
    let report = try kitchen.run(recipe, dryRun: true)
    #expect(report.statuses == [.planned, .planned, .planned])
    #expect(report.jobs[0].inputBytes == 700)
    #expect(report.totals.expectedSeconds ?? 0 > 0)
    #expect(kitchen.folder.contents == ["a", "recipe.yaml"])
    #expect(kitchen.log.all.isEmpty)
  }

  /// Recording a job costs the same at the end as at the beginning, and a finished batch is gone through at once.
  @Test func manyJobs() throws {
    let kitchen = try Kitchen()
    let items = (0..<150).map { "x\($0)" }.joined(separator: ", ")
    let recipe = "jobs: [{write: {for-each: [\(items)], output: '{path}'}}]"
    #expect(try kitchen.run(recipe, jobs: 2).totals.done == 150)
    let again = try kitchen.run(recipe, jobs: 2)
    #expect(again.totals.unchanged == 150)
    let size = try #require(
      try FileManager.default.attributesOfItem(
        atPath: kitchen.folder("recipe.yaml.state.jsonl"))[.size] as? Int)
    #expect(size < 45_000)
  }
}

struct RecipeTests {
  @Test(arguments: [
    ("{path}", "in/a.b.npz"), ("{name}", "a.b.npz"), ("{stem}", "a.b"), ("{parent}/x", "in/x"),
    ("{{stem}}", "{stem}"), ("{}.A,{}.B", "{}.A,{}.B"), ("[0-9]{1,2}", "[0-9]{1,2}"),
    ("{stem}-{stem}", "a.b-a.b"), ("{", "{"), ("a{stem", "a{stem"),
  ])
  func templates(text: String, becomes: String) throws {
    let kitchen = try Kitchen()
    let report = try kitchen.run(
      "jobs: [{write: {for-each: in/a.b.npz, output: '\(text)'}}]", dryRun: true)
    #expect(report.jobs[0].outputs == [becomes])
  }

  @Test func patternsMatchFilesAndPlannedOutputs() throws {
    let kitchen = try Kitchen()
    try FileManager.default.createDirectory(
      atPath: kitchen.folder("in/deep"), withIntermediateDirectories: true)
    for name in ["in/b.x", "in/a.x", "in/.hidden.x", "in/c.y", "in/deep/d.x"] {
      try kitchen.write(name, "")
    }
    let report = try kitchen.run(
      """
      jobs:
        - write: { for-each: "in/*.x", input: "{path}", output: "in/{stem}.npz" }
        - write: { for-each: "in/[ab].npz", input: "{path}", output: "{stem}.z" }
        - write: { for-each: "in/**/*.x", input: "{path}", output: "{name}" }
      """, dryRun: true)
    #expect(
      report.jobs.flatMap(\.outputs)
        == ["in/a.npz", "in/b.npz", "a.z", "b.z", "a.x", "b.x", "d.x"])
  }

  @Test(arguments: [
    (
      "jobs: [{wriet: {output: a}}]", "recipe.unknown", "line 1, column 9",
      "did you mean \"write\"?"
    ),
    ("job: []", "recipe.unknown", "line 1, column 1", "did you mean \"jobs\"?"),
    ("jobs: [{write: {output: a}, nedes: b}]", "recipe.unknown", "line 1, column 29", "needs"),
    ("jobs: [{needs: [b], write: {output: a}}]", "recipe.unknown", "line 1, column 17", nil),
    ("jobs: []", "recipe.jobs", "line 1, column 7", nil),
    ("", "recipe.form", "line 1", nil),
    ("jobs:\n - write: [1]", "recipe.form", "line 2, column 11", nil),
    ("jobs:\n - name: a\n", "recipe.commands", "line 2", nil),
    ("jobs:\n - for-each: a\n   write: {output: a}", "recipe.place", "line 2", "fields"),
    (
      "jobs:\n - name: a\n   write: {output: a}\n - name: a\n   write: {output: b}",
      "recipe.name", "line 4", nil
    ),
    ("jobs: [{write: {for-each: 'no/*', output: a}}]", "recipe.no-match", "line 1", "allow-empty"),
    ("jobs: [{write: {for-each: [], output: a}}]", "recipe.no-match", "line 1", "allow-empty"),
    ("jobs: [{write: {output: '{stem}.x'}}]", "recipe.template", "line 1, column 25", "for-each"),
    (
      "jobs: [{write: {for-each: [a], output: '{stm}.x'}}]", "recipe.unknown", "line 1", "stem"
    ),
    ("jobs: [{write: {for-each: [a, b], output: c}}]", "recipe.same-output", "line 1", "{stem}"),
    (
      "jobs: [{write: {output: x/../a}}, {write: {output: ./a}}]", "recipe.same-output", "line 1",
      nil
    ),
    ("jobs: [{write: {input: m/, output: m}}]", "recipe.output-is-input", "line 1", nil),
    ("jobs: [{write: {input: m/, output: m/o}}]", "recipe.output-in-input", "line 1", nil),
    (
      "jobs: [{write: {output: m/o}}, {write: {output: m}}]", "recipe.output-in-output", "line 1",
      nil
    ),
    ("jobs: [{write: {output: a}}", "yaml.syntax", "line", nil),
    ("defaults: {}", "recipe.jobs", "line 1, column 1", nil),
    ("jobs: {write: {output: a}}", "recipe.form", "line 1, column 7", nil),
    ("jobs: [write]", "recipe.form", "line 1, column 8", nil),
    ("jobs: [{name: [a], write: {output: a}}]", "recipe.form", "line 1, column 15", nil),
    ("jobs: [{name: '', write: {output: a}}]", "recipe.form", "line 1, column 15", nil),
    (
      "jobs: [{write: {for-each: 'no/*', allow-empty: perhaps, output: a}}]", "recipe.value",
      "line 1, column 48", nil
    ),
    ("jobs: [{write: {for-each: [[a]], output: a}}]", "recipe.items", "line 1, column 28", nil),
  ])
  func refusals(text: String, id: String, place: String, hint: String?) throws {
    let kitchen = try Kitchen()
    let error = try #require(surgeryError { try kitchen.run(text) })
    #expect(error.id == id, "\(error)")
    #expect(error.kind == .data)
    #expect(error.description.contains(place), "\(error)")
    if let hint { #expect(error.hint?.contains(hint) ?? false, "\(error.hint ?? "no hint")") }
    #expect(kitchen.folder.contents == ["recipe.yaml"])
  }

  @Test func noItemsWhereThatIsFine() throws {
    let kitchen = try Kitchen()
    let report = try kitchen.run(
      "jobs: [{write: {for-each: 'no/*', allow-empty: true, output: a}}]")
    #expect(report.jobs.isEmpty)
  }

  @Test func aMissingInputIsFoundBeforeAnythingRuns() throws {
    let kitchen = try Kitchen()
    let recipe = "jobs: [{write: {output: a}}, {write: {input: nowhere, output: b}}]"
    let error = try #require(surgeryError { try kitchen.run(recipe) })
    #expect(error.id == "file.missing" && error.kind == .missingInput)
    #expect(kitchen.log.all.isEmpty)
    #expect(try kitchen.run(recipe, keepsGoing: true).statuses == [.done, .failed])
  }
}
