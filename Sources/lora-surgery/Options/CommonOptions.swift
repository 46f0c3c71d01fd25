import ArgumentParser
import Checkpoints
import LoRASurgery
import Tensors

/// A number of bytes, written `512M`, `1.5GB` or `4096`.
struct ByteSize: ExpressibleByArgument {
  var bytes: Int

  init(bytes: Int) { self.bytes = bytes }

  init?(argument: String) {
    guard let bytes = SizeText.bytes(argument) else { return nil }
    self.bytes = bytes
  }

  var defaultValueDescription: String { Quantities.bytes(bytes) }
}

/// What every command takes.
struct CommonOptions: ParsableArguments {
  @Option(help: "Worker threads (default: one for each processor).")
  var jobs: Int?

  @Option(help: "The most memory that buffers may take, as 512M or 2G.")
  var memory = ByteSize(bytes: 512_000_000)

  @Option(
    help: ArgumentHelp(
      "The most that the compressed tensors of one archive may expand to (default: the larger of 512MiB and 64 times the archive's size).",
      valueName: "size"))
  var maxInflate: ByteSize?

  @Flag(help: "Print the report as one JSON object on standard output.")
  var json = false

  @Flag(name: .shortAndLong, help: "Print errors only.")
  var quiet = false

  @Flag(name: .shortAndLong, help: "Print more: every tensor, and notes.")
  var verbose = false

  func validate() throws {
    if let jobs, jobs < 1 { throw ValidationError("--jobs must be at least 1, not \(jobs)") }
  }

  /// Runs an operation with threads, memory, progress and signals as asked for.
  func execute<Report>(
    _ operation: (Execution) throws(SurgeryError) -> Report
  ) throws(SurgeryError) -> Report {
    let execution = Execution(
      jobs: jobs ?? Workers.processorCount, memory: memory.bytes,
      limits: ReadLimits(inflatedBytes: maxInflate.map { UInt64($0.bytes) }),
      interruption: Interruption(), progress: Progress())
    Signals.handle(with: execution.interruption)
    let bar = ProgressBar(execution.progress)
    if !quiet { bar.start() }
    defer { bar.stop() }
    return try operation(execution)
  }

  /// Prints a report: as JSON, or as the text that `render` makes unless quiet.
  func show(
    _ report: some Encodable & Sendable, warnings: [String], _ render: () -> [String]
  ) throws(SurgeryError) {
    if !quiet {
      for warning in warnings {
        Console.note("warning: \(DisplayText.escaped(warning, limit: 400))")
      }
    }
    if json {
      try Console.print(try ReportJSON.text(report))
    } else if !quiet {
      let lines = render()
      if !lines.isEmpty { try Console.print(lines.joined(separator: "\n")) }
    }
  }
}

/// Which tensors take part.
struct SelectionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Only tensors whose name matches (repeatable).", valueName: "regex"))
  var include: [String] = []

  @Option(
    help: ArgumentHelp("No tensors whose name matches (repeatable).", valueName: "regex"))
  var exclude: [String] = []

  var selection: Selection { Selection(include: include, exclude: exclude) }
}
