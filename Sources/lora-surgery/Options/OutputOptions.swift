import ArgumentParser
import Tensors

/// How a result is written.
struct WritingOptions: ParsableArguments {
  @Option(
    help:
      "Storage dtype of what is written (default: the source's); q8_0 is for GGUF adapters.")
  var dtype: DType?

  @Flag(help: "Replace an existing output.")
  var force = false

  @Flag(help: "Print the plan and write nothing.")
  var dryRun = false

  @Flag(help: "Accept finite values that become infinite in the storage dtype; they are counted.")
  var allowOverflow = false
}

/// Where and how a result is written.
struct OutputOptions: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "Where the result goes; its extension says the format, a name without one is a folder, - is standard output.",
      valueName: "path"), completion: .checkpoints)
  var output: String

  @OptionGroup var writing: WritingOptions

  var dtype: DType? { writing.dtype }
  var force: Bool { writing.force }
  var dryRun: Bool { writing.dryRun }
  var allowOverflow: Bool { writing.allowOverflow }
}
