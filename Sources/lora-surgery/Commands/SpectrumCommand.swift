import ArgumentParser
import LoRASurgery
import Tensors

struct SpectrumCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "spectrum",
    abstract: "Show the singular values of a difference: what each rank would keep and cost.",
    discussion: """
      Nothing is extracted; the table says which rank each rule of extract would choose.

        lora-surgery spectrum --base base/ --tuned tuned/
        lora-surgery spectrum --base base/ --tuned tuned/ --html spectrum.html
      """)

  @Option(
    help: ArgumentHelp("The model before tuning: a file or folder.", valueName: "path"),
    completion: .checkpoints)
  var base: String

  @Option(
    help: ArgumentHelp("The model after tuning: a file or folder.", valueName: "path"),
    completion: .checkpoints)
  var tuned: String

  @Option(
    help: ArgumentHelp(
      "How many of the leading singular values of each matrix are reported.", valueName: "number"))
  var values = 64

  @Option(
    help: ArgumentHelp(
      "Write a page with curves, a heat map and a table to this file.", valueName: "file"),
    completion: .file(extensions: ["html"]))
  var html: String?

  @Flag(help: "Replace an existing page.")
  var force = false

  @Option(help: "The precision of the arithmetic.")
  var precision = Precision.float32

  @Flag(help: "Leave out tensors that only one of the two models has, instead of refusing.")
  var allowMissing = false

  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func validate() throws {
    guard values >= 1 else { throw ValidationError("--values takes a number of at least 1") }
  }

  func request() throws -> SpectrumRequest {
    var request = SpectrumRequest(base: base, tuned: tuned)
    request.values = values
    request.html = html
    request.force = force
    request.precision = precision
    request.allowMissing = allowMissing
    request.selection = selection.selection
    return request
  }

  func run() throws {
    let request = try self.request()
    let report = try common.execute { (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report, warnings: report.warnings) {
      SpectrumText(report, verbose: common.verbose, drawsBlocks: Console.drawsBlocks)
        .lines(width: Console.width)
    }
  }
}
