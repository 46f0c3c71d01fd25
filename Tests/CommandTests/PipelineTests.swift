import Foundation
import Testing

/// Lists of inputs, streams and job arrays, as shell pipelines use them.
struct PipelineTests {
  let base = Command.fixture("demo/base")
  let tuned = Command.fixture("demo/tuned")

  /// A folder with three small checkpoints and a file that is none.
  private func inputs(_ folder: TemporaryFolder) throws -> [String] {
    try FileManager.default.createDirectory(
      atPath: folder("in"), withIntermediateDirectories: false)
    let names = ["in/a.npz", "in/line\nbreak.npz", "in/c.npz"].map { folder($0) }
    for name in names {
      try FileManager.default.copyItem(
        atPath: Command.fixture("numpy/stored.npz"), toPath: name)
    }
    try Data("junk".utf8).write(to: URL(fileURLWithPath: folder("in/junk.npz")))
    return names
  }

  private func lines(_ run: Command) throws -> [[String: Any]] {
    try run.output.split(separator: "\n").map { line in
      try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    }
  }

  @Test func manyInputsAreALineOfJSONEachAndAFailureIsOneOfThem() throws {
    let folder = try TemporaryFolder()
    let names = try inputs(folder)
    let run = try Command(
      words: ["convert", names[0], folder("in/junk.npz"), names[2], "-o", folder("out/")]
        + ["--to", "safetensors", "--json"])
    #expect(run.status == 65)
    #expect(run.errors.contains("junk.npz"))
    let lines = try lines(run)
    #expect(
      lines.map { $0["input"] as? String } == [names[0], folder("in/junk.npz"), names[2]])
    #expect(lines.map { $0["error"] != nil } == [false, true, false])
    #expect(lines.allSatisfy { $0["command"] as? String == "convert" })
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder("out")).sorted()
        == ["a.safetensors", "c.safetensors"])
  }

  @Test func namesComeFromStandardInputOrAFile() throws {
    let folder = try TemporaryFolder()
    let names = try inputs(folder)
    let separated = try Command(
      words: ["convert", "--files-from", "-", "-0", "-o", folder("out"), "--to", "safetensors"],
      input: names.joined(separator: "\0") + "\0")
    #expect(separated.status == 0, "\(separated.errors)")
    #expect(
      Set(try FileManager.default.contentsOfDirectory(atPath: folder("out")))
        == ["a.safetensors", "line\nbreak.safetensors", "c.safetensors"])
    try Data("\(names[0])\n\n\(names[2])\n".utf8).write(
      to: URL(fileURLWithPath: folder("list")))
    let inspected = try Command("inspect", "--files-from", folder("list"), "--json")
    #expect(inspected.status == 0)
    let files = try lines(inspected).map { try #require($0["files"] as? [[String: Any]]) }
    #expect(files.map { $0.count } == [1, 1])
    #expect(files.map { $0[0]["path"] as? String } == [names[0], names[2]])
    #expect(
      try Command("inspect", "--files-from", folder("nowhere")).status == 66)
    try Data([0x61, 0xFF, 0x0A]).write(to: URL(fileURLWithPath: folder("latin")))
    let latin = try Command("inspect", "--files-from", folder("latin"))
    #expect(latin.status == 65 && latin.errors.contains("[list.name]"))
    #expect(latin.errors.contains(folder("latin")) && latin.errors.contains("no UTF-8"))
    #expect(try Command("inspect", "-0", base).status == 64)
  }

  @Test func operandsOfInspectAreOneObject() throws {
    let folder = try TemporaryFolder()
    let names = try inputs(folder)
    let run = try Command("inspect", names[0], folder("in/junk.npz"), names[2], "--json")
    #expect(run.status == 65)
    let files = try #require(try run.json()["files"] as? [[String: Any]])
    #expect(files.map { $0["path"] as? String } == [names[0], names[2]])
  }

  @Test func nothingIsDoneTwice() throws {
    let folder = try TemporaryFolder()
    let names = try inputs(folder)
    func convert(_ more: String...) throws -> Command {
      try Command(
        words: ["convert", names[0], names[2], "-o", folder("out"), "--to", "safetensors"] + more)
    }
    #expect(try convert().status == 0)
    #expect(try convert().status == 73)
    let skipped = try convert("--skip-existing", "--json")
    #expect(skipped.status == 0)
    #expect(try lines(skipped).map { $0["skipped"] as? String } == ["exists", "exists"])
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSinceNow: 60)], ofItemAtPath: names[2])
    let renewed = try convert("--newer", "--json")
    #expect(renewed.status == 0, "\(renewed.errors)")
    #expect(try lines(renewed).map { $0["skipped"] == nil } == [false, true])
    #expect(try convert("--newer", "--skip-existing").status == 64)
  }

  @Test func resizeTakesManyAdapters() throws {
    let folder = try TemporaryFolder()
    for name in ["a", "b"] {
      _ = try Command(
        "extract", "--base", base, "--tuned", tuned, "-o", folder(name), "--rank", "4", "-q")
    }
    let run = try Command(
      "resize", folder("a"), folder("b"), "--suffix", "-r2", "--rank", "2", "--json")
    #expect(run.status == 0, "\(run.errors)")
    #expect(try lines(run).map { $0["output"] as? String } == [folder("a-r2"), folder("b-r2")])
    #expect(FileManager.default.fileExists(atPath: folder("a-r2/adapter_config.json")))
  }

  @Test(arguments: ["safetensors", "npz", "compact"])
  func aStreamHasTheBytesOfTheFile(form: String) throws {
    let folder = try TemporaryFolder()
    let source: String
    if form == "compact" {
      source = folder("adapter")
      _ = try Command(
        "extract", "--base", base, "--tuned", tuned, "-o", source, "--rank", "2", "-q")
    } else {
      source = base
    }
    let file = folder("out.\(form == "compact" ? "lra" : form)")
    _ = try Command("convert", source, "-o", file, "--to", form, "-q")
    let stream = try Command("convert", source, "-o", "-", "--to", form)
    #expect(stream.status == 0)
    #expect(try stream.bytes == Data(contentsOf: URL(fileURLWithPath: file)))
    #expect(stream.errors.contains("-> -"))
  }

  @Test func aStreamIsOneResultAndNoReport() throws {
    let folder = try TemporaryFolder()
    let names = try inputs(folder)
    #expect(try Command("convert", names[0], names[2], "-o", "-").status == 64)
    #expect(try Command("convert", names[0], "-o", "-", "--json").status == 64)
    let failed = try Command("convert", folder("in/junk.npz"), "-o", "-")
    #expect(failed.status == 65)
    #expect(failed.bytes.isEmpty)
  }

  @Test func aClosedPipeIsNoFailure() throws {
    let folder = try TemporaryFolder()
    let names = try inputs(folder)
    let list = Array(repeating: names[0], count: 200).joined(separator: "\n")
    for words in [
      ["inspect", "--files-from", "-"], ["inspect", "--files-from", "-", "--json"],
    ] {
      #expect(try Command(words: words, input: list, readsOutput: false).status == 0)
    }
    #expect(
      try Command(words: ["convert", base, "-o", "-", "-q"], readsOutput: false).status == 0)
    // The work goes on though nobody reads of it.
    let copies = try (0..<8).map { index in
      let copy = folder("in/\(index).npz")
      try FileManager.default.copyItem(atPath: names[0], toPath: copy)
      return copy
    }
    #expect(
      try Command(
        words: ["convert", "--files-from", "-", "-o", folder("out"), "--to", "safetensors"]
          + ["--json"], input: copies.joined(separator: "\n"), readsOutput: false
      ).status == 0)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder("out")).count == 8)
  }

  @Test func namesThatCollideOrAreMissingAreRefused() throws {
    let folder = try TemporaryFolder()
    let names = try inputs(folder)
    #expect(
      try Command("convert", names[0], names[0], "-o", folder("out")).errors.contains(
        "[output.twice]"))
    #expect(try Command("convert", names[0], names[2]).status == 64)
    #expect(try Command("convert").status == 64)
    #expect(try Command("convert", names[0]).status == 64)
    #expect(!FileManager.default.fileExists(atPath: folder("out")))
  }
}

/// `--part` and `gather` as job arrays use them.
struct ClusterCommandTests {
  let base = Command.fixture("demo/base")
  let tuned = Command.fixture("demo/tuned")

  @Test func tasksOfAnArraySayTheSameWords() throws {
    let folder = try TemporaryFolder()
    let words = ["extract", "--base", base, "--tuned", tuned, "--rank", "4"]
    for task in 0..<3 {
      let run = try Command(
        words: words + ["-o", folder("parts/"), "--part", "auto", "--json"],
        environment: [
          "SLURM_ARRAY_TASK_ID": "\(task)", "SLURM_ARRAY_TASK_COUNT": "3",
          "SLURM_ARRAY_TASK_MIN": "0",
        ])
      #expect(run.status == 0, "\(run.errors)")
      let part = try #require(try run.json()["part"] as? [String: Any])
      #expect(part["part"] as? String == "\(task + 1)/3")
    }
    #expect(try Command(words: words + ["-o", folder("alone"), "-q"]).status == 0)
    let gathered = try Command("gather", folder("parts"), "-o", folder("adapter"), "--json")
    #expect(gathered.status == 0, "\(gathered.errors)")
    #expect(try gathered.json()["gathered"] as? String == "extract")
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
      #expect(
        FileManager.default.contentsEqual(
          atPath: folder("adapter/\(name)"), andPath: folder("alone/\(name)")))
    }
  }

  /// A part has its own tensors; what it says of the adapter holds for the whole merge.
  @Test func aPartSaysWhatItsCountsAreOf() throws {
    let folder = try TemporaryFolder()
    let words = ["extract", "--base", base, "--tuned", tuned, "--rank", "4"]
    #expect(try Command(words: words + ["-o", folder("adapter"), "-q"]).status == 0)
    for (words, isPart) in [(["--part", "1/2"], true), ([], false)] {
      let run = try Command(
        words: ["merge", base, folder("adapter"), "-o", folder("out\(isPart)")] + words)
      #expect(run.status == 0, "\(run.errors)")
      #expect(run.output.contains(" modules in all parts\n") == isPart)
    }
  }

  @Test func anArrayIsNoticedOnlyWhenAsked() throws {
    let folder = try TemporaryFolder()
    let run = try Command(
      words: ["convert", base, "-o", folder("whole"), "--json"],
      environment: [
        "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0",
      ])
    #expect(run.status == 0)
    #expect(try run.json()["part"] == nil)
    #expect(FileManager.default.fileExists(atPath: folder("whole/config.json")))
  }

  @Test func aListIsDividedWithoutGathering() throws {
    let folder = try TemporaryFolder()
    let names = try (0..<4).map { index in
      let name = folder("\(index).npz")
      try FileManager.default.copyItem(
        atPath: Command.fixture("numpy/stored.npz"), toPath: name)
      return name
    }
    for index in ["0", "1"] {
      let run = try Command(
        words: ["convert"] + names + ["-o", folder("out"), "--to", "safetensors", "--parts", "2"],
        environment: ["JOB_COMPLETION_INDEX": index])
      #expect(run.status == 0, "\(run.errors)")
      #expect(run.output.contains("2 done"))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder("out")).count == 4)
  }

  @Test(arguments: [
    (["--part", "5/4"], "[part.form]"), (["--part", "0/4"], "[part.form]"),
    (["--part", "x"], "[part.form]"), (["--part", "auto"], "[part.environment]"),
    (["--parts", "3"], "[part.environment]"), (["--part", "1/2", "--parts", "3"], "contradict"),
  ])
  func impossiblePartsAreUsageErrors(words: [String], says: String) throws {
    let folder = try TemporaryFolder()
    let run = try Command(words: ["convert", base, "-o", folder("out")] + words)
    #expect(run.status == 64)
    #expect(run.errors.contains(says), "\(run.errors)")
    #expect(!FileManager.default.fileExists(atPath: folder("out")))
  }

  @Test func aLostPartIsNamed() throws {
    let folder = try TemporaryFolder()
    _ = try Command("convert", base, "-o", folder("parts/"), "--part", "1/3", "-q")
    let run = try Command("gather", folder("parts"), "-o", folder("out"))
    #expect(run.status == 66)
    #expect(run.errors.contains("2/3, 3/3"))
    #expect(run.errors.contains("[part.missing]"))
  }
}
