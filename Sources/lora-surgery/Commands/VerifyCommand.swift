import ArgumentParser
import LoRASurgery
import Tensors

struct VerifyCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Check that a model is what merging adapters into a base gives.",
    discussion: """
      Every tensor is exact, within one unit in the last place, or off; the usual accidents are named. The exit status \
      is 1 where a tensor is off.

        lora-surgery verify --base base/ --adapter adapter/ --merged merged/
        lora-surgery verify --base base --adapter a:0.7 --adapter b:0.3 --merged both
      """)

  @Option(
    help: ArgumentHelp("The base: a file or folder.", valueName: "path"), completion: .checkpoints)
  var base: String

  @Option(
    name: .customLong("adapter"),
    help: ArgumentHelp(
      "An adapter with its weight, in the order of merging (repeatable).",
      valueName: "adapter[:weight]"))
  var adapters: [WeightedAdapter]

  @Option(
    help: ArgumentHelp("The model to check: a file or folder.", valueName: "path"),
    completion: .checkpoints)
  var merged: String

  @Option(help: "The precision of the arithmetic.")
  var precision = Precision.float32

  @OptionGroup(title: "What adapters do not say themselves")
  var reading: AdapterReadingOptions
  @OptionGroup var scales: ScaleOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func request() throws -> VerifyRequest {
    var request = VerifyRequest(base: base, adapters: adapters, merged: merged)
    request.adapterOptions = try reading.options()
    request.scaleFor = try scales.rules()
    request.selection = selection.selection
    request.precision = precision
    return request
  }

  func run() throws {
    let request = try self.request()
    let report = try common.execute { (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report, warnings: report.warnings) {
      VerifyText(report, verbose: common.verbose).lines(width: Console.width)
    }
    if !report.verified { throw ExitCode(1) }
  }
}
