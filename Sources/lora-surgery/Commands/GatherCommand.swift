import ArgumentParser
import LoRASurgery
import Tensors

struct GatherCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gather",
    abstract: "Join what the parts of a divided extract, merge or convert wrote.",
    discussion: """
      All parts must be there, once each, and be made with the same version, inputs and options; the result is byte for \
      byte what one process writes. A folder stands for the parts in it.

        lora-surgery merge base/ adapter/ -o parts/ --part 1/2
        lora-surgery merge base/ adapter/ -o parts/ --part 2/2
        lora-surgery gather parts/ -o merged/
      """)

  @Argument(
    help: ArgumentHelp("The parts, or folders of parts.", valueName: "part"), completion: .file())
  var pieces: [String]

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "Where the result goes; its extension says the format, a name without one is a folder.",
      valueName: "path"), completion: .checkpoints)
  var output: String

  @Flag(help: "Replace an existing output.")
  var force = false

  @Flag(help: "Check the parts and write nothing.")
  var dryRun = false

  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func run() throws {
    var request = GatherRequest(pieces: pieces, output: output)
    request.force = force
    request.dryRun = dryRun
    let report = try common.execute { [request] (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report)
  }
}
