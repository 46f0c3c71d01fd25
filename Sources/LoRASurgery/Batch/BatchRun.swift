import Checkpoints
import Synchronization
import Tensors

/// One run of a plan: threads take jobs as these become ready, and record each that is finished.
final class BatchRun: Sendable {
  private struct Results {
    var reports: [BatchJobReport]
    var failures: [Batch.Failure?]
    var finished = 0
    /// The signal that ends the whole batch.
    var interruption: SurgeryError?
  }

  private let plan: BatchPlan
  private let recipe: Recipe
  private let state: BatchState
  private let keepsGoing: Bool
  private let execution: Execution
  private let observe: @Sendable (Batch.Event) -> Void
  /// Jobs that have to run, and whether they replace what is there.
  private let replaces: [Int: Bool]
  private let inputBytes: [Int: Int]
  private let schedule: Monitor<BatchSchedule>
  private let results: Mutex<Results>

  init(
    _ plan: BatchPlan, _ decided: BatchDecisions, recipe: Recipe, state: BatchState,
    keepsGoing: Bool, execution: Execution, observe: @escaping @Sendable (Batch.Event) -> Void
  ) {
    self.plan = plan
    self.recipe = recipe
    self.state = state
    self.keepsGoing = keepsGoing
    self.execution = execution
    self.observe = observe
    var decisions = decided
    var results = Results(reports: [], failures: plan.jobs.map { _ in nil })
    var replaces: [Int: Bool] = [:]
    var inputBytes: [Int: Int] = [:]
    for (index, job) in plan.jobs.enumerated() {
      var report = BatchJobReport(job, .unchanged, reason: "nothing changed")
      switch decisions.all[index] {
      case .unchanged: break
      case .run(let reason, let isReplacing):
        // Until it runs.
        report.status = .skipped
        report.reason = reason
        replaces[index] = isReplacing
        inputBytes[index] = decisions.inputBytes(of: job)
      case .refused(let error):
        report.fail(with: error)
        report.reason = "refused"
        results.failures[index] = .error(error)
      }
      results.reports.append(report)
    }
    self.replaces = replaces
    self.inputBytes = inputBytes
    schedule = Monitor(
      BatchSchedule(
        plan, outstanding: plan.jobs.indices.map { replaces[$0] != nil },
        failed: results.failures.map { $0 != nil }, workers: execution.jobs,
        memory: execution.memory))
    self.results = Mutex(results)
  }

  /// Runs to the end.
  ///
  /// - Returns: The reports, why the first job failed that did, and the state file where something was recorded.
  /// - Throws: `interrupted`, or what opening the state throws.
  func run() throws(SurgeryError) -> ([BatchJobReport], Batch.Failure?, Journal?) {
    observe(.planned(outstanding: replaces.count, of: plan.jobs.count))
    for report in results.withLock({ $0.reports }) where report.status == .failed {
      observe(.finished(report, 0, of: replaces.count))
    }
    var journal: Journal?
    if !replaces.isEmpty {
      let opened = try state.open()
      journal = opened
      // On disk before any output can be: whatever is found there later was written by this batch.
      let begun = replaces.keys.sorted().flatMap { plan.jobs[$0].outputs.map(\.text) }
      try opened.append(begun.isEmpty ? [] : [BatchState.begin(begun)], flushing: true)
      execution.progress.begin("running", total: inputBytes.values.reduce(0, +))
      try Workers(count: execution.jobs).run(
        steps: execution.jobs, interruption: execution.interruption, makeState: { () }
      ) { (_, _) throws(SurgeryError) in
        while case .run(let turn) = self.schedule.wait(for: { $0.next() }) {
          self.perform(turn, opened)
        }
      }
    }
    let (reports, failure) = try results.withLock { (results) throws(SurgeryError) in
      if let interruption = results.interruption { throw stopped(interruption, results.reports) }
      for index in plan.jobs.indices where results.reports[index].status == .skipped {
        let cause = plan.jobs[index].needs.sorted().first {
          results.reports[$0].status == .failed || results.reports[$0].status == .skipped
        }
        results.reports[index].reason =
          cause.map { "needs \(plan.jobs[$0].name)" } ?? "another job failed"
      }
      return (results.reports, results.failures.compactMap { $0 }.first)
    }
    return (reports, failure, journal)
  }

  private func stopped(_ error: SurgeryError, _ reports: [BatchJobReport]) -> SurgeryError {
    var error = error
    let left = reports.count { $0.status == .skipped || $0.status == .failed }
    error.file = recipe.path
    error.what =
      "stopped by a signal with \(left) of \(reports.count, counting: "job") left; the same command does the rest"
    return error
  }

  private func perform(_ turn: BatchSchedule.Turn, _ journal: Journal) {
    let stopwatch = Stopwatch()
    var failure: Batch.Failure?
    var outcome = BatchOutcome()
    do throws(SurgeryError) {
      outcome = try finish(turn, journal, stopwatch)
      if outcome.answer == false { failure = .answer }
    } catch {
      failure = .error(error)
    }
    var interruption: SurgeryError?
    if case .error(let error) = failure, case .interrupted = error.kind { interruption = error }
    results.withLock { results in
      var report = results.reports[turn.job]
      report.seconds = stopwatch.seconds
      report.totals = outcome.totals
      report.answer = outcome.answer
      report.warnings = outcome.warnings
      report.status = failure == nil ? .done : .failed
      if case .error(let error) = failure { report.fail(with: error) }
      results.reports[turn.job] = report
      results.failures[turn.job] = failure
      results.finished += 1
      if let interruption {
        results.interruption = results.interruption ?? interruption
      } else {
        // Said while locked, so that lines come in the order of their numbers.
        observe(.finished(report, results.finished, of: replaces.count))
      }
    }
    execution.progress.advance(by: inputBytes[turn.job] ?? 0)
    schedule.update { schedule in
      schedule.end(turn, isDone: failure == nil)
      if failure != nil, interruption != nil || !keepsGoing { schedule.isStopped = true }
    }
  }

  /// Runs a job and records it.
  private func finish(
    _ turn: BatchSchedule.Turn, _ journal: Journal, _ stopwatch: Stopwatch
  ) throws(SurgeryError) -> BatchOutcome {
    let job = plan.jobs[turn.job]
    try execution.interruption.check()
    var request = try job.asked()
    let folder = recipe.folder
    request.visitPaths { _, path in path = Places.path(path, from: folder) }
    // What was there when the plan was made may go; what came since may not.
    if replaces[turn.job] ?? false { request.force = true }
    let inputs = try Self.digests(of: job.inputs, areInputs: true)
    for output in job.outputs { try Places.makeFolders(above: output.path) }
    let outcome = try request.perform(
      Execution(
        jobs: turn.workers, memory: turn.memory, interruption: execution.interruption,
        progress: Progress()))
    if outcome.answer == false { return outcome }
    let record = BatchState.Record(
      words: job.call.words, inputs: inputs,
      outputs: try Self.digests(of: job.outputs, areInputs: false),
      bytesRead: outcome.totals?.bytesRead ?? 0, bytesWritten: outcome.totals?.bytesWritten ?? 0,
      seconds: stopwatch.seconds)
    try journal.append([record.line])
    return outcome
  }

  private static func digests(
    of paths: [BatchPath], areInputs: Bool
  ) throws(SurgeryError) -> [String: String] {
    var digests: [String: String] = [:]
    for path in paths {
      digests[path.text] = try Fingerprint(of: path.path, withCompanions: areInputs)?.text ?? ""
    }
    return digests
  }
}
