import ArgumentParser
import LinearAlgebra
import LoRASurgery
import Tensors

/// The command: words in, a report out, and an exit status that scripts can rely on.
@main
struct LoRASurgeryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lora-surgery",
    abstract: "Extract, merge and convert low-rank adapters of checkpoints on disk.",
    discussion: """
      Files in, files out: no Python, no GPU, no framework.

        lora-surgery inspect model/
        lora-surgery extract --base base/ --tuned tuned/ -o adapter/ --rank 16
        lora-surgery merge base/ adapter/ -o merged/
      """,
    version: Version.current,
    subcommands: [
      InspectCommand.self, ExtractCommand.self, SpectrumCommand.self, MergeCommand.self,
      UnmergeCommand.self, ResizeCommand.self, CombineCommand.self, CompareCommand.self,
      VerifyCommand.self, ConvertCommand.self, CheckCommand.self, GatherCommand.self,
      BatchCommand.self,
    ])

  static func main() {
    useSingleThreadedBLAS()
    ProcessLimits.raiseOpenFiles()
    Signals.ignoreThoseThatWritesReport()
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch let error as SurgeryError {
      Console.report(error)
      Signals.end(with: error)
    } catch {
      exit(withError: error)
    }
  }
}
