import Foundation
import Testing

/// Every example of the manual and of the help is run, in order, in a folder that has what the examples name.
struct ExampleTests {
  @Test func examplesOfTheManualAndTheHelp() throws {
    let template = try ExampleStage()
    let program = try CommandDescription.ofProgram()
    let man = Command.repository + "/man/"
    try run(Examples.onPage(man + "lora-surgery.1"), on: template)
    for command in program.ownSubcommands {
      let examples = try Examples.onPage(man + "lora-surgery-\(command.commandName).1")
      #expect(!examples.isEmpty, "\(command.commandName)")
      try run(examples, on: template)
      try run(Examples.inHelp(of: command), on: template)
    }
  }

  private func run(_ examples: [String], on template: ExampleStage) throws {
    let stage = try template.copy()
    for example in examples {
      let result = try stage.shell(Examples.makingRoom(for: example))
      // An answer of no is an answer.
      let isQuestion = ["compare", "check", "verify"].contains { example.contains(" \($0) ") }
      #expect(
        result.status == 0 || (isQuestion && result.status == 1), "\(example)\n\(result.text)")
    }
  }
}

/// A folder with the models and adapters that examples name: the demo's, under several names and in several forms.
struct ExampleStage {
  let folder: TemporaryFolder

  private static let preparation = """
    cp -r "$DEMO/base" base && cp -r "$DEMO/tuned" tuned && cp -r base model && cp -r base unet
    cp "$DEMO/base/model.safetensors" model.safetensors
    extract="lora-surgery extract --base base --tuned tuned -q --strict-lora"
    $extract -o adapter --rank 8
    $extract -o a --rank 4 && $extract -o b --rank 4 --seed 1
    $extract -o a.safetensors --rank 4 && cp a.safetensors b.safetensors
    cp a.safetensors lora.safetensors && cp a.safetensors adapter.safetensors
    printf 'jobs:\\n  - extract: { base: base, tuned: tuned, rank: 4, output: lora-4 }\\n' >recipe.yaml
    mkdir loras && cp a.safetensors b.safetensors loras/
    lora-surgery merge base adapter -o merged --undo merge.undo -q
    lora-surgery merge base a:0.7 b:0.3 -o both -q
    lora-surgery merge model.safetensors lora.safetensors:0.7 -o merged.safetensors -q
    """

  init() throws {
    folder = try TemporaryFolder()
    let prepared = try shell("set -e\n" + Self.preparation)
    guard prepared.status == 0 else { throw Failure(text: prepared.text) }
  }

  private init(folder: TemporaryFolder) { self.folder = folder }

  /// The same files in a folder of their own.
  func copy() throws -> ExampleStage {
    let copy = try ExampleStage(folder: TemporaryFolder())
    _ = try shell("cp -r . '\(copy.folder.path)'")
    return copy
  }

  struct Failure: Error { var text: String }

  /// Runs a line as a person would, with the built program on the path.
  func shell(_ line: String) throws -> (status: Int32, text: String) {
    try Shell.run(line, in: folder.path, environment: ["DEMO": Command.fixture("demo")])
  }
}
