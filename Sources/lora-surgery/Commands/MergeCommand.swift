import Adapters
import ArgumentParser
import LoRASurgery
import Tensors

/// What merge and unmerge share.
struct MergeOptions: ParsableArguments {
  @Option(help: "The precision of the arithmetic.")
  var precision = Precision.float32

  @Option(
    help: ArgumentHelp(
      "Split the output into shards of at most this size, as 5GB.", valueName: "size"))
  var maxShardSize: ByteSize?

  @OptionGroup var scales: ScaleOptions
  @OptionGroup(title: "What adapters do not say themselves")
  var adapters: AdapterReadingOptions
  @OptionGroup(title: "Output") var output: OutputOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Division over machines") var division: PartOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func request(
    _ direction: MergeDirection, rounding: RoundingMode = .nearest, model: String,
    adapters weighted: [WeightedAdapter], undo: String?
  ) throws -> MergeRequest {
    var request = MergeRequest(
      direction, model: model, adapters: weighted, output: output.output)
    request.dtype = output.dtype
    request.adapterOptions = try adapters.options()
    request.selection = selection.selection
    request.precision = precision
    request.rounding = rounding
    request.scaleFor = try scales.rules()
    request.undo = undo
    request.maximumShardSize = maxShardSize?.bytes
    request.allowOverflow = output.allowOverflow
    request.force = output.force
    request.dryRun = output.dryRun
    request.part = try division.chosen()
    return request
  }
}

/// The spellings of `--rounding`.
enum RoundingChoice: String, ExpressibleByArgument, CaseIterable {
  case nearest, stochastic
}

struct MergeCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Add adapters to a model.",
    discussion: """
      Every adapter adds weight x scale x up x down to the tensors that it names; everything else is copied.

        lora-surgery merge base/ adapter/ -o merged/
        lora-surgery merge base/ a.safetensors:0.7 b.safetensors:0.3 -o merged/
      """)

  @Argument(help: "The model: a file or folder.", completion: .checkpoints)
  var base: String

  @Argument(help: ArgumentHelp("Adapters with their weights.", valueName: "adapter[:weight]"))
  var adapters: [WeightedAdapter]

  @Option(help: "How results are rounded: stochastic keeps small deltas on average.")
  var rounding = RoundingChoice.nearest

  @Option(help: ArgumentHelp("The seed of stochastic rounding.", valueName: "number"))
  var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp(
      "Write a record from which unmerge restores the base bit for bit.", valueName: "file"),
    completion: .file())
  var undo: String?

  @OptionGroup var options: MergeOptions

  var common: CommonOptions { options.common }

  func request() throws -> MergeRequest {
    try options.request(
      .merge, rounding: rounding == .nearest ? .nearest : .stochastic(seed: seed), model: base,
      adapters: adapters, undo: undo)
  }

  func run() throws { try options.common.run(try request(), as: nil) }
}

struct UnmergeCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "unmerge",
    abstract: "Take adapters out of a model that they were merged into.",
    discussion: """
      The deltas are subtracted again; what rounding lost when merging stays lost, unless the merge wrote an undo \
      record: then the base comes back bit for bit.

        lora-surgery unmerge merged/ adapter/ -o base/
        lora-surgery unmerge merged/ adapter/ --undo merge.undo -o base/
        lora-surgery unmerge merged.safetensors a.safetensors:0.7 -o base.safetensors
      """)

  @Argument(help: "The merged model: a file or folder.", completion: .checkpoints)
  var merged: String

  @Argument(
    help: ArgumentHelp(
      "Adapters with the weights they were merged with.", valueName: "adapter[:weight]"))
  var adapters: [WeightedAdapter]

  @Option(
    help: ArgumentHelp(
      "The record that merge wrote, to restore the base bit for bit.", valueName: "file"),
    completion: .file())
  var undo: String?

  @OptionGroup var options: MergeOptions

  var common: CommonOptions { options.common }

  func request() throws -> MergeRequest {
    try options.request(.unmerge, model: merged, adapters: adapters, undo: undo)
  }

  func run() throws { try options.common.run(try request(), as: nil) }
}
