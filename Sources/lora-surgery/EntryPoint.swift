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
    version: VersionText.lines.joined(separator: "\n"),
    subcommands: [
      InspectCommand.self, ExtractCommand.self, SpectrumCommand.self, MergeCommand.self,
      UnmergeCommand.self, ResizeCommand.self, CombineCommand.self, CompareCommand.self,
      VerifyCommand.self, ConvertCommand.self, CheckCommand.self, GatherCommand.self,
      BatchCommand.self, DoctorCommand.self,
    ])

  static func main() {
    do { try ProcessLimits.requireAddressSpace() } catch {
      Console.report(error)
      Signals.endAtOnce(with: error)
    }
    useSingleThreadedBLAS()
    ProcessLimits.raiseOpenFiles()
    Signals.ignoreThoseThatWritesReport()
    let words = CommandLine.arguments.dropFirst()
    do {
      try CommandLineMistakes.requireText()
      try CommandLineMistakes.requireCommand(words)
      var command = try parseAsRoot()
      try command.run()
    } catch let error as SurgeryError {
      end(with: error)
    } catch let code as ExitCode {
      exit(withError: code)
    } catch  where exitCode(for: error) == .success {
      let width = min(Console.width, 100)
      show(HelpText.arranged(fullMessage(for: error, columns: width), width: width))
    } catch {
      end(with: CommandLineMistakes.error(saying: message(for: error), words: words))
    }
  }

  func run() throws { try Console.print(FirstSteps.text) }

  private static func show(_ text: String) {
    do {
      try Console.print(text)
    } catch {
      end(with: error)
    }
  }

  private static func end(with error: SurgeryError) -> Never {
    Console.report(error)
    Signals.end(with: error)
  }
}
