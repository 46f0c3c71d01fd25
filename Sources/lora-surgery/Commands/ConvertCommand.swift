import ArgumentParser
import Checkpoints
import LoRASurgery
import Tensors

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Write a checkpoint in another format, layout or dtype.",
    discussion: """
      The output's extension says the format; a name without one is a folder of the input's layout.

        lora-surgery convert model/ -o model.safetensors
        lora-surgery convert model.safetensors -o half/ --dtype f16 --max-shard-size 2GB
      """)

  @Argument(help: "The checkpoint: a file or folder.")
  var input: String

  @Option(
    name: .customLong("to"), help: "The format, where the output's extension does not say it.")
  var format: FileFormat?

  @Option(
    help: ArgumentHelp(
      "Split the output into shards of at most this size, as 5GB.", valueName: "size"))
  var maxShardSize: ByteSize?

  @Option(
    help: ArgumentHelp(
      "Rename tensors; $1 stands for the first group (repeatable).", valueName: "s/regex/template/")
  )
  var rename: [String] = []

  @Option(help: ArgumentHelp("Set a key of the metadata (repeatable).", valueName: "key=value"))
  var metadata: [String] = []

  @Option(help: ArgumentHelp("Leave a key of the metadata out (repeatable).", valueName: "key"))
  var dropMetadata: [String] = []

  @OptionGroup var output: OutputOptions
  @OptionGroup var selection: SelectionOptions
  @OptionGroup var common: CommonOptions

  func run() throws {
    var request = ConvertRequest(input: input, output: output.output)
    request.form = OutputForm(format: format, maximumShardSize: maxShardSize?.bytes)
    request.dtype = output.dtype
    request.selection = selection.selection
    request.renamings = try rename.map { try Renaming($0) }
    for pair in metadata {
      guard let equals = pair.firstIndex(of: "="), equals != pair.startIndex else {
        throw ValidationError("--metadata takes KEY=VALUE, not '\(pair)'")
      }
      request.metadata[String(pair[..<equals])] = String(pair[pair.index(after: equals)...])
    }
    request.droppedMetadata = dropMetadata
    request.allowOverflow = output.allowOverflow
    request.force = output.force
    request.dryRun = output.dryRun
    let report = try common.execute { [request] (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report, warnings: report.warnings) {
      ReportText(report, verbose: common.verbose).lines(width: Console.width)
    }
  }
}
