import ArgumentParser
import LoRASurgery
import Tensors

struct BatchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "batch",
    abstract: "Run the jobs of a recipe, and those alone that are not finished.",
    discussion: """
      The recipe is YAML: a list of commands whose fields are their long options and, by name, their operands. A file \
      beside it says what is finished; run again after a crash or a change, batch does what is left and says why. See \
      lora-surgery-recipe(5).

        lora-surgery batch recipe.yaml --dry-run
        lora-surgery batch recipe.yaml --jobs 4 --memory 2G --keep-going
      """)

  /// What a job may be.
  static let jobCommands: [any JobCommand.Type] = [
    InspectCommand.self, ExtractCommand.self, SpectrumCommand.self, MergeCommand.self,
    UnmergeCommand.self, ResizeCommand.self, CombineCommand.self, CompareCommand.self,
    VerifyCommand.self, ConvertCommand.self, CheckCommand.self,
  ]

  @Argument(
    help: "The recipe: a file of YAML or JSON.",
    completion: .file(extensions: ["yaml", "yml", "json"]))
  var recipe: String

  @Flag(help: "After a failure, still run the jobs that do not need the failed one.")
  var keepGoing = false

  @Flag(help: "Replace outputs that no earlier run of the recipe wrote.")
  var force = false

  @Flag(help: "Print the plan with the sizes and times to expect, and write nothing.")
  var dryRun = false

  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func run() throws {
    var decoder = JobDecoder(Self.jobCommands)
    var batch = Batch(try Recipe(reading: recipe, commands: decoder.commandNames))
    batch.keepsGoing = keepGoing
    batch.force = force
    batch.dryRun = dryRun
    let (quiet, verbose) = (common.quiet, common.verbose)
    let (report, failure) = try common.execute { [batch] (execution) throws(SurgeryError) in
      try batch.run(
        execution,
        decoding: { (call) throws(SurgeryError) in try decoder.decode(call) },
        observing: { BatchText.note($0, quiet: quiet, verbose: verbose) })
    }
    try common.show(report, warnings: report.warnings) {
      BatchText(report, verbose: common.verbose).lines(width: Console.width)
    }
    switch failure {
    case nil: return
    case .answer: throw ExitCode(1)
    case .error(let error): throw ExitCode(Signals.exitStatus(of: error))
    }
  }
}
