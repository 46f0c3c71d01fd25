import Foundation
import Testing

/// Tables on terminals of several widths.
struct TableTests {
  private let demo = Command.fixture("demo")

  @Test(arguments: [80, 160])
  func everyTableFits(columns: Int) throws {
    let folder = try TemporaryFolder()
    let lines = [
      "lora-surgery inspect \(demo)/base --stats",
      "lora-surgery spectrum --base \(demo)/base --tuned \(demo)/tuned",
      "lora-surgery extract --base \(demo)/base --tuned \(demo)/tuned -o adapter --rank 4",
      "lora-surgery inspect adapter", "lora-surgery merge \(demo)/base adapter -o merged",
      "lora-surgery compare merged \(demo)/base", "lora-surgery resize adapter -o less --rank 2",
      "lora-surgery verify --base merged --adapter adapter --merged \(demo)/tuned",
    ]
    for line in lines {
      let run = try Shell.run(line, in: folder.path, environment: ["COLUMNS": "\(columns)"])
      #expect(run.status < 2, "\(run.text)")
      for shown in run.text.split(separator: "\n") where !shown.contains("/demo/") {
        #expect(shown.count <= columns, "\(line)\n\(shown)")
      }
    }
  }

  @Test func namesThatWouldLookAlikeStandInFull() throws {
    let folder = try TemporaryFolder()
    _ = try Command(
      "extract", "--base", demo + "/base", "--tuned", demo + "/tuned", "-o", folder("adapter"),
      "--rank", "4", "-q")
    let run = try Shell.run(
      "lora-surgery merge \(demo)/base adapter -o merged", in: folder.path,
      environment: ["COLUMNS": "70"])
    #expect(run.status == 0)
    let lines = run.text.split(separator: "\n").map(String.init)
    #expect(lines.contains("model.layers.*.self_attn.q_proj.weight"), "\(run.text)")
    #expect(lines.contains("model.layers.*.self_attn.k_proj.weight"))
    let names = lines.filter { $0.hasPrefix("\u{2026}") }.map { $0.prefix { $0 != " " } }
    #expect(Set(names).count == names.count, "\(run.text)")
  }

  @Test func columnsWithoutValuesAreLeftOut() throws {
    let folder = try TemporaryFolder()
    let run = try Command("convert", demo + "/base", "-o", folder("copy"))
    let header = try #require(run.output.split(separator: "\n").first)
    #expect(header.split(separator: " ") == ["tensor", "count", "action"])
  }

  /// LAPACK writes what it thinks of its arguments to standard output.
  @Test func standardOutputHoldsTheReportAlone() throws {
    let run = try Command(
      "spectrum", "--base", demo + "/base", "--tuned", demo + "/tuned", "--json")
    #expect(try run.json()["command"] as? String == "spectrum", "\(run.output.suffix(200))")
    #expect(
      try Command("spectrum", "--base", demo + "/base", "--tuned", demo + "/tuned", "-q").bytes
        .isEmpty)
  }

  /// One tensor, one module, one shard and one job are no plurals.
  @Test func oneOfAThingIsNoPlural() throws {
    let folder = try TemporaryFolder()
    let lines = [
      "lora-surgery extract --base \(demo)/base --tuned \(demo)/tuned -o a.safetensors --rank 2 "
        + "--include 'layers.0.self_attn.q_proj'",
      "lora-surgery convert \(demo)/base -o one.safetensors --include 'layers.0.self_attn.q_proj'",
      "lora-surgery inspect one.safetensors", "lora-surgery inspect a.safetensors",
      "lora-surgery check one.safetensors", "lora-surgery compare one.safetensors one.safetensors",
      "lora-surgery merge one.safetensors a.safetensors -o merged.safetensors",
      "lora-surgery verify --base one.safetensors --adapter a.safetensors "
        + "--merged merged.safetensors",
      "lora-surgery spectrum --base one.safetensors --tuned merged.safetensors",
      "lora-surgery convert a.safetensors -o a.lra", "lora-surgery inspect a.lra",
      "printf 'jobs: [{check: {paths: one.safetensors}}]' >r.yaml && lora-surgery batch r.yaml",
    ]
    for line in lines {
      let run = try Shell.run(line, in: folder.path)
      #expect(run.status == 0, "\(run.text)")
      let plurals = try Regex(#"(^|[^0-9,.])1 (?!as\b)[a-z]+s\b"#)
      for shown in run.text.split(separator: "\n") {
        #expect(shown.firstMatch(of: plurals) == nil, "\(line)\n\(shown)")
      }
    }
  }

  @Test func wideCharactersKeepTheColumns() throws {
    let folder = try TemporaryFolder()
    _ = try Command(
      "convert", demo + "/base", "-o", folder("wide.safetensors"), "--rename", "s/model/模型重み/",
      "-q")
    let run = try Command("inspect", folder("wide.safetensors"))
    let rows = run.output.split(separator: "\n").filter { $0.contains("BF16") }
    #expect(rows.count == 21)
    let columns = rows.map { row in
      row.prefix { $0 != "B" }.unicodeScalars.reduce(0) { $0 + ($1.value > 0x2E80 ? 2 : 1) }
    }
    #expect(Set(columns).count == 1, "\(rows)")
  }

  /// A terminal of a locale without Unicode, which says a width of its own.
  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/script")))
  func aPlainTerminalGetsPlainCharacters() throws {
    let run = try Shell.run(
      """
      script -qec 'stty cols 60; lora-surgery inspect \(demo)/base --stats --color never; \
      lora-surgery spectrum --base \(demo)/base --tuned \(demo)/tuned --color never -q' /dev/null
      """, in: "/", environment: ["LC_ALL": "C", "TERM": "xterm"])
    #expect(run.status == 0)
    #expect(run.text.utf8.allSatisfy { $0 < 0x80 })
    #expect(run.text.contains("BF16"))
  }
}
