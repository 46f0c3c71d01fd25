import Foundation
import Testing

/// The main job on the demo's models, as a script would run it.
struct MainJobTests {
  let base = Command.fixture("demo/base")
  let tuned = Command.fixture("demo/tuned")

  @Test func extractMergeAndUnmerge() throws {
    let folder = try TemporaryFolder()
    let extracted = try Command(
      "extract", "--base", base, "--tuned", tuned, "-o", folder("adapter"), "--rank", "16",
      "--json")
    #expect(extracted.status == 0, "\(extracted.errors)")
    #expect(extracted.errors.isEmpty)
    let totals = try #require(try extracted.json()["totals"] as? [String: Any])
    #expect(totals["tensors"] as? Int == 21)
    #expect(totals["changed"] as? Int == 20)
    #expect(try #require(totals["captured_energy"] as? Double) > 0.97)

    let merged = try Command("merge", base, folder("adapter"), "-o", folder("merged"), "--quiet")
    #expect(merged.status == 0, "\(merged.errors)")
    #expect(merged.output.isEmpty)
    #expect(FileManager.default.fileExists(atPath: folder("merged/config.json")))
    #expect(
      try Command("compare", folder("merged"), tuned, "--tolerance", "0.06").status == 0)
    #expect(try Command("compare", folder("merged"), tuned).status == 1)

    let config = try String(contentsOfFile: folder("adapter/adapter_config.json"), encoding: .utf8)
    #expect(config.contains("\"peft_type\": \"LORA\""))
  }

  @Test func unmergeTakesALowRankAdapterOut() throws {
    let folder = try TemporaryFolder()
    #expect(
      try Command(
        "extract", "--base", base, "--tuned", tuned, "-o", folder("adapter"), "--rank", "4",
        "--others", "skip", "--dtype", "f32", "--quiet"
      ).status == 0)
    #expect(
      try Command("merge", base, folder("adapter"), "-o", folder("merged"), "--dtype", "f32", "-q")
        .status == 0)
    #expect(
      try Command("unmerge", folder("merged"), folder("adapter"), "-o", folder("back"), "-q")
        .status == 0)
    #expect(try Command("compare", folder("back"), base, "--tolerance", "1e-6").status == 0)
  }

  @Test func aDryRunWritesNothing() throws {
    let folder = try TemporaryFolder()
    let run = try Command(
      "extract", "--base", base, "--tuned", tuned, "-o", folder("adapter"), "--rank", "2",
      "--dry-run")
    #expect(run.status == 0)
    #expect(run.output.contains("nothing was written"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  @Test func inspectNamesEveryTensor() throws {
    let run = try Command("inspect", base, "--json")
    let files = try #require(try run.json()["files"] as? [[String: Any]])
    #expect((files[0]["tensors"] as? [Any])?.count == 21)
    #expect(files[0]["path"] as? String == base)
  }
}

/// Exit statuses and the one line that scripts read.
struct ErrorLineTests {
  @Test(arguments: [
    (["inspect", "/no/such/file"], Int32(66), "[file.missing]"),
    (["merge", "/no/such/file", "/nor/this", "-o", "/tmp/x"], 66, "[file.missing]"),
    (["inspect", "/dev/null"], 66, "[file.not-regular]"),
    (["inspect"], 64, "missing expected argument"),
    (["frobnicate"], 64, "frobnicate"),
    (["convert", "a", "-o", "b.npz", "--dtype", "i32"], 64, "q8_0, found i32"),
    (["extract", "--base", "a", "--tuned", "b", "-o", "c", "--rank", "many"], 64, "rank"),
  ])
  func statusAndLine(words: [String], status: Int32, says: String) throws {
    let run = try Command(words: words)
    #expect(run.status == status)
    #expect(run.errors.contains(says), "\(run.errors)")
    #expect(run.output.isEmpty)
    #expect(run.errors.hasPrefix("lora-surgery: error: "))
  }

  /// Values that an option cannot take are refused before any file is opened.
  @Test(arguments: [
    ("combine a b -o c --method dare_ties", "or magnitude-prune-svd, found dare_ties"),
    ("compare a b --tolerance=-1", "--tolerance takes a number of at least 0"),
    ("convert a -o b.npz --compress 10", "--compress takes a level from 1 to 9, not 10"),
    ("convert a -o b --metadata x", "--metadata takes KEY=VALUE, not 'x'"),
    ("convert a -o b --rename s/a", "found s/a [usage.rename]"),
    ("extract --base a --tuned b -o c --rank 2 --accuracy 2", "between 0 and 1, not 2.0"),
    ("extract --base a --tuned b -o c --budget 0%", "--budget"),
    ("extract --base a --tuned b -o c --budget 200%", "--budget"),
    ("merge a b -o c --fan-in-fan-out maybe", "takes auto, yes or no, not 'maybe'"),
    ("merge a b -o c --enable-lora true,perhaps", "takes true and false, not 'perhaps'"),
    ("merge a b -o c --pair x", "takes DOWN,UP=TENSOR, not 'x'"),
    ("merge a b -o c --alpha inf", "--alpha takes a finite number, not 'inf'"),
    ("merge a b -o c --map s/a/$1/", "--map takes plain text as replacement, not '$1'"),
    ("merge a b -o c --scale-for q=inf", "--scale-for takes REGEX=NUMBER, not 'q=inf'"),
    ("merge a b -o c --memory 99999999999999999999", "--memory"),
    ("merge a b -o c --undo u --part 1/2", "[part.undo]"),
    ("spectrum --base a --tuned b --values 0", "--values takes a number of at least 1"),
    ("check a --jobs 0", "--jobs must be at least 1, not 0"),
  ])
  func valuesThatAnOptionCannotTake(words: String, says: String) throws {
    try statusAndLine(
      words: words.split(separator: " ").map(String.init), status: 64, says: says)
  }

  @Test func anAdapterForAnotherModel() throws {
    let folder = try TemporaryFolder()
    let demo = Command.fixture("demo")
    _ = try Command(
      "extract", "--base", demo + "/base", "--tuned", demo + "/tuned", "-o", folder("adapter"),
      "--rank", "2", "-q")
    _ = try Command(
      "convert", demo + "/base", "-o", folder("other"), "--rename", "s/^model/other/", "-q")
    let run = try Command("merge", folder("other"), folder("adapter"), "-o", folder("merged"))
    #expect(run.status == 65)
    #expect(run.errors.contains("[adapter.unknown-target]"), "\(run.errors)")
    #expect(!FileManager.default.fileExists(atPath: folder("merged")))
  }

  @Test func anOutputThatExistsOrIsTheInput() throws {
    let folder = try TemporaryFolder()
    let model = folder("model.safetensors")
    _ = try Command("convert", Command.fixture("demo/base"), "-o", model, "-q")
    let before = try Data(contentsOf: URL(fileURLWithPath: model))
    #expect(try Command("convert", Command.fixture("demo/base"), "-o", model).status == 73)
    #expect(try Command("convert", model, "-o", model, "--force").status == 65)
    try FileManager.default.createSymbolicLink(
      atPath: folder("link.safetensors"), withDestinationPath: model)
    #expect(
      try Command(
        "convert", Command.fixture("demo/base"), "-o", folder("link.safetensors"), "--force"
      )
      .status == 73)
    #expect(try Data(contentsOf: URL(fileURLWithPath: model)) == before)
  }
}
