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
  @Option(
    help: ArgumentHelp(
      "Worker threads (default: one for each processor).", valueName: "number"))
  var jobs: Int?

  @Option(
    help: ArgumentHelp(
      "The most memory that buffers may take, as 512M or 2G.", valueName: "size"))
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

  @Option(
    help: ArgumentHelp(
      "Whether text is coloured; auto colours on a terminal unless NO_COLOR is set.",
      valueName: "when"))
  var color = ColorChoice.auto

  @Option(
    help: ArgumentHelp(
      "How notes, progress and errors are written to standard error.", valueName: "form"))
  var logFormat = LogFormat.text

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

  /// Runs an operation whose result goes to a path, or to standard output where the path is `-`.
  ///
  /// - Parameters:
  ///   - output: The path as the user named it.
  ///   - format: The container of a result on standard output; safetensors where nothing says another.
  ///   - operation: Writes to the path that it gets.
  /// - Returns: The operation's report, with the path as the user named it.
  /// - Throws: `output.stream`, `output.terminal`, and what the operation throws.
  func execute(
    to output: String, as format: FileFormat?,
    _ operation: (String, Execution) throws(SurgeryError) -> OperationReport
  ) throws(SurgeryError) -> OperationReport {
    guard output == "-" else {
      return try execute { (execution) throws(SurgeryError) in try operation(output, execution) }
    }
    guard !json else {
      throw SurgeryError(
        .usage, "output.stream", "the result and the report cannot both go to standard output",
        hint: "leave --json out, or name a file with -o")
    }
    let result = try StreamedResult(format: format ?? .safetensors)
    defer { result.remove() }
    var report = try execute { (execution) throws(SurgeryError) in
      let report = try operation(result.path, execution)
      // A dry run makes nothing to send.
      if report.output != nil { try result.send(execution.interruption) }
      return report
    }
    if report.output != nil { report.output = "-" }
    return report
  }

  /// Runs a request whose result goes where its output says, and prints its report.
  ///
  /// - Parameters:
  ///   - request: The request.
  ///   - format: The container of a result on standard output.
  /// - Throws: As ``execute(to:as:_:)``.
  func run(_ request: some WritingOperation, as format: FileFormat?) throws(SurgeryError) {
    let report = try execute(to: request.output, as: format) {
      (path, execution) throws(SurgeryError) in
      var request = request
      request.output = path
      return try request.run(execution)
    }
    try show(report)
  }

  /// Notes warnings unless quiet.
  func warn(_ warnings: [String]) {
    if quiet { return }
    for warning in warnings { Console.warn(warning) }
  }

  /// Prints the report of an operation; beside a result on standard output it goes to standard error.
  func show(_ report: OperationReport) throws(SurgeryError) {
    let lines = { ReportText(report, verbose: verbose).lines(width: Console.width) }
    guard report.output == "-" else {
      return try show(report, warnings: report.warnings, lines)
    }
    warn(report.warnings)
    if !quiet { for line in lines() { Console.note(line) } }
  }

  /// Prints a report: as JSON, or as the text that `render` makes unless quiet.
  func show(
    _ report: some Encodable & Sendable, warnings: [String], _ render: () -> [String]
  ) throws(SurgeryError) {
    warn(warnings)
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
