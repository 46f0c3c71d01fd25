import ArgumentParser
import LoRASurgery

/// How ranks are chosen, for every command that makes low-rank factors.
struct RankArguments: ParsableArguments {
  @Option(help: "The rank of every factor pair.")
  var rank: Int?

  @Option(
    help: "The rank of kernels larger than 1x1; beside another rule than --rank, the most they get."
  )
  var convRank: Int?

  @Option(
    help: ArgumentHelp(
      "The least rank that captures this share of a tensor's energy.", valueName: "share"))
  var energy: Double?

  @Option(
    help: ArgumentHelp(
      "The least rank that leaves at most this share of a tensor's norm.", valueName: "share"))
  var maxError: Double?

  @Option(
    help: ArgumentHelp(
      "The most that all factors together may take, as 30MB or 1% of the parameters.",
      valueName: "size|percent"))
  var budget: RankOptions.Budget?

  @Flag(
    help:
      "Keep the singular values that stand out from noise, that of the dtype's rounding included.")
  var noiseFloor = false

  @Option(
    help: ArgumentHelp(
      "Keep the singular values above the largest one divided by this.", valueName: "ratio"))
  var svRatio: Double?

  @Option(
    help: ArgumentHelp(
      "The least rank with this share of a tensor's Frobenius norm.", valueName: "share"))
  var svFro: Double?

  @Option(
    help: ArgumentHelp(
      "The least rank with this share of the sum of singular values.", valueName: "share"))
  var svCumulative: Double?

  @Option(help: "The least rank that a tensor gets.")
  var minRank: Int?

  @Option(help: "The largest rank that a tensor gets.")
  var maxRank: Int?

  @Option(
    help: ArgumentHelp(
      "The rank of tensors whose name matches; 0 leaves them out (repeatable).",
      valueName: "regex=rank"))
  var rankFor: [RankOptions.NamedRank] = []

  /// The options as the library takes them.
  var options: RankOptions {
    var options = RankOptions()
    options.rank = rank
    options.convRank = convRank
    options.energy = energy
    options.maxError = maxError
    options.budget = budget
    options.noiseFloor = noiseFloor
    options.svRatio = svRatio
    options.svFro = svFro
    options.svCumulative = svCumulative
    options.minRank = minRank
    options.maxRank = maxRank
    options.rankFor = rankFor
    return options
  }
}
