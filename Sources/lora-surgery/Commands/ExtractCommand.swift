import Adapters
import ArgumentParser
import LoRASurgery
import Tensors

struct ExtractCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "extract",
    abstract: "Extract the difference of two models as a low-rank adapter.",
    discussion: """
      Changed matrices become factor pairs, other changed tensors are kept in full, and the report says how much of the \
      difference the adapter holds.

        lora-surgery extract --base base/ --tuned tuned/ -o adapter/ --rank 16
        lora-surgery extract --base base/ --tuned tuned/ -o lora/ --energy 0.95
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
    name: .customLong("to"),
    help: ArgumentHelp("The dialect to write.", valueName: "dialect"))
  var written: WrittenDialect?

  @Option(help: "randomized stops when the energy cannot grow; exact goes through LAPACK.")
  var method = ExtractRequest.Method.randomized

  @Option(help: "The precision of the arithmetic.")
  var precision = Precision.float32

  @Option(
    help: ArgumentHelp(
      "The energy that may be missing to the best factors, relative to what those leave behind.",
      valueName: "share"))
  var accuracy = 1e-4

  @Option(
    help: ArgumentHelp(
      "The seed of the search; the same seed gives the same bytes.", valueName: "number"))
  var seed: UInt64 = 0

  @Option(help: "What happens to embeddings that changed.")
  var embeddings = ExtractRequest.Embeddings.lowRank

  @Option(help: "What happens to changed tensors that are no matrices, as norms and biases.")
  var others = ExtractRequest.Others.full

  @Flag(
    help:
      "Factors of linear layers alone, as vLLM and llama.cpp want: no full tensors, embeddings or stacked experts."
  )
  var strictLora = false

  @Flag(help: "Leave out tensors that only one of the two models has, instead of refusing.")
  var allowMissing = false

  @OptionGroup(title: "Ranks") var ranks: RankArguments
  @OptionGroup(title: "Output") var output: OutputOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Division over machines") var division: PartOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func validate() throws {
    guard accuracy > 0, accuracy < 1 else {
      throw ValidationError("--accuracy takes a number between 0 and 1, not \(accuracy)")
    }
  }

  func request() throws -> ExtractRequest {
    var request = ExtractRequest(
      base: base, tuned: tuned, output: output.output, ranks: ranks.options)
    request.dtype = output.dtype
    request.dialect = written?.dialect
    request.method = method
    request.precision = precision
    request.accuracy = accuracy
    request.seed = seed
    request.embeddings = strictLora ? .skip : embeddings
    request.others = strictLora ? .skip : others
    request.experts = strictLora ? .skip : .lowRank
    request.allowMissing = allowMissing
    request.selection = selection.selection
    request.allowOverflow = output.allowOverflow
    request.force = output.force
    request.dryRun = output.dryRun
    request.part = try division.chosen()
    return request
  }

  func run() throws {
    try common.run(try request(), as: written?.dialect.container)
  }
}
