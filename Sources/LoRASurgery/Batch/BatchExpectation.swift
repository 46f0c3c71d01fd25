import Checkpoints
import Tensors

/// Sizes and times of jobs that have not run.
struct BatchExpectation {
  private let state: BatchState
  private let folder: String
  private var sizes: [String: Int] = [:]

  /// Bytes of input a second on one processor core, where no job of the command was recorded: rounded down from what the
  /// benchmarks give for bfloat16.
  private static let rates = [
    "extract": 0.15e9, "spectrum": 0.1e9, "merge": 0.8e9, "unmerge": 0.8e9, "convert": 0.8e9,
    "resize": 0.03e9, "combine": 0.1e9, "verify": 0.5e9, "compare": 0.5e9, "check": 0.8e9,
  ]
  private static let otherRate = 1e9
  /// Seconds that opening, flushing and renaming take, whatever the size.
  private static let overhead = 0.005

  init(_ state: BatchState, folder: String) {
    self.state = state
    self.folder = folder
  }

  /// Adds to a report what its job is expected to read, write and take; to be asked in the order in which jobs run.
  mutating func describe(_ job: BatchJob, in report: inout BatchJobReport) throws(SurgeryError) {
    let inputs = try job.inputs.map { input throws(SurgeryError) in try size(of: input) }
    let read = inputs.reduce(0) { $0 + ($1 ?? 0) }
    report.inputBytes = inputs.contains(nil) ? nil : read
    var request = try job.asked()
    request.visitPaths { [folder] _, path in path = Places.path(path, from: folder) }
    let known = Dictionary(
      zip(job.inputs, inputs).compactMap { input, size in size.map { (input.path, $0) } },
      uniquingKeysWith: { first, _ in first })
    let recorded = job.outputs.first.flatMap { state.record(ofOutput: $0.text) }
    let written = request.expectedBytes { known[$0] } ?? recorded?.bytesWritten
    report.expectedBytes = written
    for output in job.outputs { sizes[output.place] = written }
    let rate = state.rate(of: job.command) ?? Self.rates[job.command] ?? Self.otherRate
    report.expectedSeconds = Double(read) / rate + Self.overhead
  }

  private mutating func size(of input: BatchPath) throws(SurgeryError) -> Int? {
    if let known = sizes[input.place] { return known }
    let found = try Fingerprint(of: input.path)?.bytes
    sizes[input.place] = found
    return found
  }
}
