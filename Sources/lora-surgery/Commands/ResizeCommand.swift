import Adapters
import ArgumentParser
import LoRASurgery
import Tensors

struct ResizeCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "resize",
    abstract: "Change the rank of an adapter, without its base.",
    discussion: """
      Every factor pair is decomposed without forming its product; the report says what each rank keeps of the change.

        lora-surgery resize adapter/ -o smaller/ --rank 8
        lora-surgery resize lora.safetensors -o small.safetensors --sv-fro 0.95 --max-rank 16
      """)

  @Argument(help: "The adapter: a file or folder.")
  var adapter: String

  @Option(name: .customLong("to"), help: "The dialect to write (default: the adapter's own).")
  var dialect: Dialect?

  @OptionGroup(title: "Ranks") var ranks: RankArguments
  @OptionGroup var reading: AdapterReadingOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var selection: SelectionOptions
  @OptionGroup var common: CommonOptions

  func request() throws -> ResizeRequest {
    var request = ResizeRequest(
      adapter: adapter, output: output.output, ranks: ranks.options)
    request.dialect = dialect
    request.dtype = output.dtype
    request.adapterOptions = try reading.options()
    request.selection = selection.selection
    request.allowOverflow = output.allowOverflow
    request.force = output.force
    request.dryRun = output.dryRun
    return request
  }

  func run() throws {
    let request = try self.request()
    let report = try common.execute { (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report, warnings: report.warnings) {
      ReportText(report, verbose: common.verbose).lines(width: Console.width)
    }
  }
}
