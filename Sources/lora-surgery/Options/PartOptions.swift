import ArgumentParser
import LoRASurgery
import Tensors

/// Which share of the work this process does.
struct PartOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Do part K of N, counted from 1; 'auto' takes both from a Slurm job array. gather joins the parts.",
      valueName: "k/n|auto"))
  var part: String?

  @Option(
    help: ArgumentHelp(
      "The number of parts; which of them this is says the environment of Slurm, Kubernetes or GNU parallel.",
      valueName: "n"))
  var parts: Int?

  /// The part that was asked for; a scheduler's environment counts only when it is asked for.
  func chosen() throws -> Part? {
    guard let part, part != "auto" else {
      guard part != nil || parts != nil else { return nil }
      return try Part(count: parts, environment: Environment.value)
    }
    let named = try Part(part)
    guard parts == nil || parts == named.count else {
      throw ValidationError("--part \(named) and --parts \(parts ?? 0) contradict each other")
    }
    return named
  }
}
