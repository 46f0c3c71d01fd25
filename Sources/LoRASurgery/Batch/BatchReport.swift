/// What came of one job of a batch.
public struct BatchJobReport: Sendable, Codable {
  /// What became of it.
  public enum Status: String, Sendable, Codable {
    /// It ran to its end.
    case done
    /// It was finished before, and nothing has changed since.
    case unchanged
    /// It ended with an error, or its answer is no.
    case failed
    /// It did not run, because another job failed.
    case skipped
    /// It would run.
    case planned
  }

  /// An error as the command would report it.
  public struct Failure: Sendable, Codable {
    /// The stable name.
    public var id: String
    /// The line.
    public var message: String
    /// What resolves it.
    public var hint: String?
  }

  /// The job's name, with its item.
  public var name: String
  /// The command.
  public var command: String
  /// What became of it.
  public var status: Status
  /// Why it ran, or why not.
  public var reason: String
  /// What it writes, as the recipe has it.
  public var outputs: [String]
  /// Sums of the operation's report, where it ran.
  public var totals: OperationReport.Totals?
  /// The answer of `verify`, `compare` or `check`.
  public var answer: Bool?
  /// Wall-clock time, where it ran.
  public var seconds: Double?
  /// Bytes of all files that it reads, where it would run and they are known.
  public var inputBytes: Int?
  /// Bytes that it is expected to write.
  public var expectedBytes: Int?
  /// The time that it is expected to take.
  public var expectedSeconds: Double?
  /// What the user should know.
  public var warnings: [String]
  /// Why it failed.
  public var error: Failure?

  init(_ job: BatchJob, _ status: Status, reason: String) {
    name = job.name
    command = job.command
    self.status = status
    self.reason = reason
    outputs = job.outputs.map(\.text)
    warnings = []
  }
}

/// What came of a batch.
public struct BatchReport: Sendable, Codable {
  /// Sums over all jobs.
  public struct Totals: Sendable, Codable {
    /// Jobs in all.
    public var jobs = 0
    /// Jobs that ran to their end.
    public var done = 0
    /// Jobs that had nothing to do.
    public var unchanged = 0
    /// Jobs that failed.
    public var failed = 0
    /// Jobs that did not run because others failed.
    public var skipped = 0
    /// Jobs that would run.
    public var planned = 0
    /// Bytes of tensors read.
    public var bytesRead = 0
    /// Bytes of tensors written.
    public var bytesWritten = 0
    /// Bytes of all files that jobs would read, each as often as it is read.
    public var inputBytes: Int?
    /// Bytes that jobs are expected to write.
    public var expectedBytes: Int?
    /// The time that the batch is expected to take.
    public var expectedSeconds: Double?
    /// Wall-clock time.
    public var seconds = 0.0
    /// The most memory that the process held, in bytes.
    public var peakMemory = 0
  }

  /// Always "batch".
  public var command = "batch"
  /// The program's version.
  public var version = Version.current
  /// One entry for each job, in the order of the recipe.
  public var jobs: [BatchJobReport]
  /// The sums.
  public var totals = Totals()
  /// What the user should know.
  public var warnings: [String]

  init(_ jobs: [BatchJobReport], warnings: [String], _ stopwatch: Stopwatch) {
    self.jobs = jobs
    self.warnings = warnings
    totals.jobs = jobs.count
    for job in jobs {
      switch job.status {
      case .done: totals.done += 1
      case .unchanged: totals.unchanged += 1
      case .failed: totals.failed += 1
      case .skipped: totals.skipped += 1
      case .planned: totals.planned += 1
      }
      totals.bytesRead += job.totals?.bytesRead ?? 0
      totals.bytesWritten += job.totals?.bytesWritten ?? 0
    }
    if totals.planned > 0 {
      totals.inputBytes = jobs.reduce(0) { $0 + ($1.inputBytes ?? 0) }
      totals.expectedBytes = jobs.reduce(0) { $0 + ($1.expectedBytes ?? 0) }
    }
    totals.measure(stopwatch)
  }
}
