import Foundation
import Testing

/// What the program says of itself and of mistakes in its words.
struct HelpTests {
  @Test func aloneItShowsFirstSteps() throws {
    let run = try Command(words: [])
    #expect(run.status == 0)
    #expect(run.output.contains("First steps:"))
    #expect(run.output.contains("lora-surgery extract --base"))
  }

  @Test func everyHelpFitsItsWidth() throws {
    for command in try CommandDescription.ofProgram().ownSubcommands {
      let run = try Command(command.commandName, "--help")
      #expect(run.status == 0)
      let lines = run.output.split(separator: "\n")
      #expect(lines.allSatisfy { $0.count <= 80 }, "\(lines.filter { $0.count > 80 })")
      // The command's own options come before those that it shares.
      let titles = lines.filter { $0.hasSuffix(":") && $0.first?.isUppercase == true }
      #expect(titles.first { $0 != "ARGUMENTS:" } == "OPTIONS:", "\(titles)")
    }
  }

  @Test func versionNamesCommitAndArithmetic() throws {
    let lines = try Command("--version").output.split(separator: "\n")
    #expect(lines.count == 2)
    #expect(lines[0].hasPrefix("lora-surgery 0."))
    #expect(lines[0].contains("(commit "))
    #expect(lines[1].hasPrefix("OpenBLAS 0."))
    #expect(lines[1].contains(", kernel "))
  }

  @Test func doctorNamesNoPaths() throws {
    let run = try Command("doctor")
    #expect(run.status == 0)
    #expect(!run.output.contains("/home") && !run.output.contains(NSUserName() + "@"))
    #expect(!run.output.contains(FileManager.default.currentDirectoryPath))
    let facts = try Command("doctor", "--json").json()["facts"] as? [[String: String]]
    #expect(facts?.contains { $0["name"] == "processor" } == true)
  }
}

/// Mistakes in words: status 64, one line, one hint.
struct MistakeTests {
  @Test(arguments: [
    (["mrege"], "usage.command", "did you mean merge?"),
    (["extrct"], "usage.command", "did you mean extract?"),
    (["comp"], "usage.command", "did you mean compare?"),
    (["qqqqqq"], "usage.command", "lists the commands"),
    (["extract", "--bse", "x"], "usage.option", "did you mean --base?"),
    (
      ["extract", "--base=a", "--tuned=b", "-o", "c", "--rnak=8"], "usage.option",
      "did you mean --rank?"
    ),
    (["extract"], "usage.arguments", "lora-surgery extract --help"),
    (["inspect", "x", "--color", "often"], "usage.arguments", "lora-surgery inspect --help"),
    (["doctor", "x"], "usage.arguments", "lora-surgery doctor --help"),
    (["--verison"], "usage.option", "did you mean --version?"),
    (["merge", "a", "b", "-o", "c", "--scale", "-1"], "usage.arguments", "--scale=-1"),
  ])
  func aHintNamesWhatWasMeant(words: [String], id: String, hint: String) throws {
    let run = try Command(words: words)
    #expect(run.status == 64)
    let lines = run.errors.split(separator: "\n")
    #expect(lines.count == 2, "\(run.errors)")
    #expect(lines[0].hasPrefix("lora-surgery: error: ") && lines[0].hasSuffix("[\(id)]"))
    #expect(lines[1].hasPrefix("hint: ") && lines[1].contains(hint), "\(run.errors)")
    #expect(run.output.isEmpty)
  }

  @Test(arguments: [
    ("--color", "often", "expected auto, always or never, found often"),
    ("--from", "kohya_ss", "mlx, gguf, torchtune, litgpt, r-torch, hand-written or compact, found"),
    ("--jobs", "2.5", "expected a whole number, found 2.5"),
    ("--jobs", "two", "expected a number, found two"),
    ("--memory", "lots", "expected a size such as 512M, found lots"),
  ])
  func aValueThatIsNoneIsToldFromThoseThatAre(
    option: String, value: String, said: String
  ) throws {
    let run = try Command("inspect", "x", option, value)
    #expect(run.status == 64)
    #expect(run.errors.hasPrefix("lora-surgery: error: \(option) has a value"), "\(run.errors)")
    #expect(run.errors.contains(said), "\(run.errors)")
  }

  @Test func anErrorInJSONHasItsParts() throws {
    let run = try Command("inspect", "/no/such", "--log-format", "json")
    #expect(run.status == 66)
    let entry = try #require(
      try JSONSerialization.jsonObject(with: Data(run.errors.utf8)) as? [String: Any])
    #expect(entry["level"] as? String == "error")
    #expect(entry["id"] as? String == "file.missing")
    #expect(entry["file"] as? String == "/no/such")
  }

  @Test func aPathThatIsNoTextIsNamed() throws {
    let stage = try TemporaryFolder()
    let run = try Shell.run("lora-surgery inspect \"$(printf 'a\\377b')\"", in: stage.path)
    #expect(run.status == 64)
    #expect(run.text.contains("[usage.utf8]"))
  }
}

/// Colours, where they belong.
struct ColorTests {
  @Test(arguments: [
    ("lora-surgery inspect /no/such", false),
    ("lora-surgery inspect /no/such --color always", true),
    ("NO_COLOR=1 lora-surgery inspect /no/such --color=always", true),
    ("lora-surgery inspect /no/such --color never", false),
    ("lora-surgery inspect --color always -- --color=never", true),
  ])
  func pipesAreColouredOnRequestAlone(line: String, isColoured: Bool) throws {
    let run = try Shell.run(line, in: "/")
    #expect(run.text.contains("\u{1B}[") == isColoured, "\(run.text)")
  }
}

/// Lines of a shell with the built program on its path.
enum Shell {
  static func run(
    _ line: String, in folder: String, shell: String = "/bin/sh",
    environment: [String: String] = [:]
  ) throws -> (status: Int32, text: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: shell)
    process.arguments = ["-c", line]
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    var variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    variables["PATH"] = Command.folder + ":" + (variables["PATH"] ?? "")
    process.environment = variables
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: text, as: UTF8.self))
  }
}
