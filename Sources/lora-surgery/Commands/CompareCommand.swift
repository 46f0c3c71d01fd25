import ArgumentParser
import LoRASurgery
import Tensors

struct CompareCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Compare two checkpoints tensor by tensor, or two adapters by their deltas.",
    discussion: """
      Adapters may be of different dialects and ranks; their deltas are compared in factored form. \
      The exit status is 1 where a tensor differs by more than the tolerance.

        lora-surgery compare merged/ tuned/
        lora-surgery compare a.safetensors b.safetensors --tolerance 0.01
      """)

  @Argument(help: "The first checkpoint.", completion: .checkpoints)
  var first: String

  @Argument(
    help: "The second checkpoint, the measure of relative errors.", completion: .checkpoints)
  var second: String

  @Option(
    help: ArgumentHelp(
      "The relative Frobenius error up to which a tensor counts as equal.", valueName: "number"))
  var tolerance = 0.0

  @OptionGroup(title: "What adapters do not say themselves")
  var adapters: AdapterReadingOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func validate() throws {
    guard tolerance >= 0, tolerance.isFinite else {
      throw ValidationError("--tolerance takes a number of at least 0")
    }
  }

  func request() throws -> CompareRequest {
    var request = CompareRequest(
      first, second, tolerance: tolerance, selection: selection.selection)
    request.adapterOptions = try adapters.options()
    return request
  }

  func run() throws {
    let request = try self.request()
    let report = try common.execute { (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report, warnings: report.warnings) {
      CompareText(report, verbose: common.verbose, tolerance: tolerance).lines(width: Console.width)
    }
    if !report.equal { throw ExitCode(1) }
  }
}
