import ArgumentParser
import LoRASurgery
import Synchronization
import Tensors

/// Prints what became of one input after the other: a line each, as JSON or for people.
final class ListPrinter: Sendable {
  private struct Counts {
    var done = 0
    var skipped = 0
    var failed = 0
    /// The exit status of the first failure.
    var status: Int32 = 0
    /// Why nothing more can be printed, if that is a failure.
    var outputFailure: SurgeryError?
    var isClosed = false
  }

  /// A line of JSON for an input without a report.
  private struct Line: Encodable {
    struct Failure: Encodable {
      var id: String
      var message: String
      var hint: String?
    }
    var command: String
    var input: String
    var output: String?
    var skipped: String?
    var error: Failure?
  }

  private let command: String
  private let common: CommonOptions
  /// Whether the command prints one JSON object for all inputs itself.
  private let isOneReport: Bool
  /// Whether the process is to end when nobody reads any more, because it does nothing else than print.
  private let endsWithReader: Bool
  private let counts = Mutex(Counts())

  init(
    command: String, common: CommonOptions, isOneReport: Bool = false, endsWithReader: Bool = false
  ) {
    self.command = command
    self.common = common
    self.isOneReport = isOneReport
    self.endsWithReader = endsWithReader
  }

  /// Prints what became of an input; `text` renders its report for people.
  func receive<Report: Encodable>(
    _ item: InputList.Item, _ outcome: InputList.Outcome<Report>, text: (Report) -> String
  ) {
    counts.withLock { counts in
      switch outcome {
      case .done(let report):
        counts.done += 1
        print(report, as: text(report), &counts)
      case .skipped(let reason):
        counts.skipped += 1
        print(
          Line(command: command, input: item.input, output: item.output, skipped: reason),
          as: "\(DisplayText.escaped(item.output ?? item.input)): skipped, \(reason)", &counts)
      case .failed(let error):
        let error = error.inFile(item.input)
        counts.failed += 1
        if counts.status == 0 { counts.status = Signals.exitStatus(of: error) }
        Console.report(error)
        print(
          Line(
            command: command, input: item.input,
            error: .init(id: error.id, message: "\(error)", hint: error.hint)),
          as: nil, &counts)
      }
    }
  }

  /// Prints what became of an input that has an output.
  func receive(_ item: InputList.Item, _ outcome: InputList.Outcome<OperationReport>) {
    if case .done(let report) = outcome {
      common.warn(report.warnings.map { "\(item.input): \($0)" })
    }
    receive(item, outcome) { report in
      "\(DisplayText.escaped(item.input)) -> \(DisplayText.escaped(item.output ?? "-")): "
        + "\(Quantities.counted(report.totals.tensors, "tensor")), "
        + (report.output == nil
          ? "nothing was written" : "wrote \(Quantities.bytes(report.totals.bytesWritten))")
    }
  }

  private func print(_ value: some Encodable, as text: String?, _ counts: inout Counts) {
    guard !counts.isClosed else { return }
    let line: String
    do throws(SurgeryError) {
      if common.json {
        if isOneReport { return }
        line = try ReportJSON.text(value)
      } else {
        guard let text, !common.quiet else { return }
        line = text
      }
      if endsWithReader { return try Console.print(line) }
      counts.isClosed = try !Console.printUnlessClosed(line)
    } catch {
      counts.outputFailure = error
      counts.isClosed = true
    }
  }

  /// Ends with the status of the first failure.
  func finish() throws {
    let counts = counts.withLock { $0 }
    if let failure = counts.outputFailure { throw failure }
    if counts.status != 0 { throw ExitCode(counts.status) }
  }

  /// Prints how many inputs there were of each outcome, and ends with the status of the first failure.
  func finishWithSums() throws {
    let counts = counts.withLock { $0 }
    if !common.json, !common.quiet, !counts.isClosed {
      var words = ["\(counts.done) done"]
      if counts.skipped > 0 { words.append("\(counts.skipped) skipped") }
      if counts.failed > 0 { words.append("\(counts.failed) failed") }
      try Console.print(words.joined(separator: ", "))
    }
    try finish()
  }
}
