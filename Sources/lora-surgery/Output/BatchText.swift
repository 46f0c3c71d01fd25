import LoRASurgery
import Tensors

/// A batch as people read it.
struct BatchText {
  private let report: BatchReport
  private let verbose: Bool

  init(_ report: BatchReport, verbose: Bool) {
    self.report = report
    self.verbose = verbose
  }

  /// Says on standard error what has just happened.
  static func note(_ event: Batch.Event, quiet: Bool, verbose: Bool) {
    switch event {
    case .planned(let outstanding, let all):
      if !quiet, outstanding < all {
        Console.note(
          "\(Quantities.grouped(all - outstanding)) of \(Quantities.counted(all, "job")) need not run"
        )
      }
    case .finished(let job, let number, let all):
      if !quiet {
        for warning in job.warnings where verbose || job.status == .failed {
          Console.warn("\(job.name): \(warning)")
        }
      }
      if let error = job.error {
        Console.report(id: error.id, error.message, hint: error.hint)
      }
      if quiet { return }
      let place = number > 0 ? "[\(number)/\(all)] " : ""
      let time = job.seconds.map { " in \(Quantities.duration($0))" } ?? ""
      let result =
        job.answer == false
        ? "the answer is no" : job.status == .done ? "done" : job.status.rawValue
      Console.note("\(place)\(escaped(job.name)): \(result)\(time) (\(escaped(job.reason)))")
    }
  }

  private static func escaped(_ text: String) -> String { DisplayText.escaped(text, limit: 200) }

  /// The lines of the report.
  func lines(width: Int) -> [String] {
    let totals = report.totals
    var lines = totals.planned > 0 ? plan(width: width) : verbose ? outcome(width: width) : []
    let counts = [
      (totals.done, "done"), (totals.unchanged, "unchanged"), (totals.failed, "failed"),
      (totals.skipped, "skipped"), (totals.planned, "to run"),
    ]
    lines.append(
      "\(Quantities.counted(totals.jobs, "job")): "
        + counts.filter { $0.0 > 0 }.map { "\(Quantities.grouped($0.0)) \($0.1)" }
        .joined(separator: ", "))
    if totals.planned > 0 {
      let read = totals.inputBytes.map(Quantities.bytes) ?? "?"
      let written = totals.expectedBytes.map(Quantities.bytes) ?? "?"
      let time = Quantities.duration(totals.expectedSeconds ?? 0)
      lines.append(
        "to read \(read), to write about \(written), in about \(time); nothing was written")
    } else {
      lines.append(
        "read \(Quantities.bytes(totals.bytesRead)), wrote \(Quantities.bytes(totals.bytesWritten)) in "
          + "\(Quantities.duration(totals.seconds)), at most \(Quantities.bytes(totals.peakMemory)) of memory"
      )
    }
    return lines
  }

  private func plan(width: Int) -> [String] {
    var table = TextTable([
      ("job", .left), ("reads", .right), ("writes", .right), ("takes", .right), ("why", .left),
      ("output", .left),
    ])
    for job in report.jobs where job.status != .unchanged || verbose {
      table.add([
        job.name, job.inputBytes.map(Quantities.bytes) ?? "",
        job.expectedBytes.map { "~\(Quantities.bytes($0))" } ?? "",
        job.expectedSeconds.map { "~\(Quantities.duration($0))" } ?? "",
        job.error?.message ?? job.reason, job.outputs.joined(separator: ", "),
      ])
    }
    return table.lines(width: width) + [""]
  }

  private func outcome(width: Int) -> [String] {
    var table = TextTable([
      ("job", .left), ("", .left), ("time", .right), ("why", .left), ("output", .left),
    ])
    for job in report.jobs {
      table.add([
        job.name, job.status.rawValue, job.seconds.map { Quantities.duration($0) } ?? "",
        job.reason, job.outputs.joined(separator: ", "),
      ])
    }
    return table.lines(width: width) + [""]
  }
}
