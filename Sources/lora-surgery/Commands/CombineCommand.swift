import Adapters
import ArgumentParser
import LoRASurgery
import Tensors

struct CombineCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "combine",
    abstract: "Make one adapter of several.",
    discussion: """
      concat is exact and adds the ranks up; svd is the best of a rank; the others are PEFT's, on the factors or, as \
      -svd, on the deltas themselves.

        lora-surgery combine a/:0.7 b/:0.3 -o both/ --method concat
        lora-surgery combine a/ b/ -o both/ --method ties-svd --density 0.2 --rank 16
      """)

  @Argument(help: ArgumentHelp("Adapters with their weights.", valueName: "adapter[:weight]"))
  var adapters: [WeightedAdapter]

  @Option(help: "How the adapters are put together.")
  var method: CombineRequest.Method

  @Option(help: ArgumentHelp("The share of elements that pruning keeps.", valueName: "share"))
  var density: Double?

  @Option(help: "How ties elects the sign of an element: by the sum of values or by their number.")
  var majoritySign = CombineRequest.MajoritySign.total

  @Option(
    help: ArgumentHelp(
      "The seed of what dare drops; the same seed gives the same bytes.", valueName: "number"))
  var seed: UInt64 = 0

  @Option(
    name: .customLong("to"),
    help: ArgumentHelp("The dialect to write (default: the first adapter's).", valueName: "dialect")
  )
  var written: WrittenDialect?

  @OptionGroup(title: "Ranks") var ranks: RankArguments
  @OptionGroup(title: "What adapters do not say themselves")
  var reading: AdapterReadingOptions
  @OptionGroup(title: "Output") var output: OutputOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func request() throws -> CombineRequest {
    var request = CombineRequest(adapters: adapters, output: output.output, method: method)
    request.density = density
    request.majoritySign = majoritySign
    request.seed = seed
    request.ranks = ranks.options
    request.dialect = written?.dialect
    request.dtype = output.dtype
    request.adapterOptions = try reading.options()
    request.selection = selection.selection
    request.allowOverflow = output.allowOverflow
    request.force = output.force
    request.dryRun = output.dryRun
    return request
  }

  func run() throws {
    try common.run(try request(), as: written?.dialect.container)
  }
}
