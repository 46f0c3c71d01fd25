import Checkpoints
public import Tensors

/// Runs the jobs of a recipe, and those alone that are not finished.
public struct Batch: Sendable {
  /// The recipe.
  public var recipe: Recipe
  /// Whether jobs that do not need a failed one still run.
  public var keepsGoing = false
  /// Whether outputs are replaced that no earlier run of the recipe wrote.
  public var force = false
  /// Whether only the plan is made.
  public var dryRun = false

  /// Something that happened.
  public enum Event: Sendable {
    /// The plan is made: this many jobs have to run.
    case planned(outstanding: Int, of: Int)
    /// A job came to its end; how many have, and of how many.
    case finished(BatchJobReport, Int, of: Int)
  }

  /// Why a job failed.
  public enum Failure: Sendable {
    /// It ended with an error.
    case error(SurgeryError)
    /// It ended well, and its answer is no.
    case answer
  }

  /// Prepares a batch.
  public init(_ recipe: Recipe) { self.recipe = recipe }

  /// Makes the plan and runs what has to run.
  ///
  /// A file beside the recipe says what is finished; it is written after every job, so a batch may end at any time. A job
  /// runs if it is new, if its options changed, or if what it reads or wrote is not as it was, by size, modification time and
  /// inode. Jobs that read the same large input run one after the other.
  ///
  /// - Parameters:
  ///   - execution: Threads and memory of all jobs together.
  ///   - decode: Makes what a call asks for; paths as the recipe has them.
  ///   - observe: Hears of what happens, from several threads, one at a time.
  /// - Returns: What became of every job, and why the first failed that did, in the order of the recipe.
  /// - Throws: `recipe.…` before anything is written; without ``keepsGoing`` also what jobs refuse before they run;
  ///   `journal.…` or `io.…` where the state cannot be kept.
  public func run(
    _ execution: Execution = Execution(),
    decoding decode: (RecipeCall) throws(SurgeryError) -> BatchCall,
    observing observe: @escaping @Sendable (Event) -> Void = { _ in }
  ) throws(SurgeryError) -> (report: BatchReport, failure: Failure?) {
    let stopwatch = Stopwatch()
    let state = try BatchState(beside: recipe.path)
    let plan = try BatchPlan(recipe, state: state, decoding: decode)
    let decisions = try BatchDecisions(plan, state: state, replacing: force)
    if !keepsGoing {
      for decision in decisions.all { if case .refused(let error) = decision { throw error } }
    }
    if dryRun {
      let reports = try expectations(plan, decisions.all, state)
      var report = BatchReport(reports, warnings: state.warnings(nil), stopwatch)
      // Jobs share the processors, and each takes the work of one.
      report.totals.expectedSeconds =
        reports.reduce(0) { $0 + ($1.expectedSeconds ?? 0) } / Double(execution.jobs)
      return (report, decisions.firstRefusal)
    }
    let run = BatchRun(
      plan, decisions, recipe: recipe, state: state, keepsGoing: keepsGoing, execution: execution,
      observe: observe)
    let (reports, failure, journal) = try run.run()
    return (BatchReport(reports, warnings: state.warnings(journal), stopwatch), failure)
  }

  private func expectations(
    _ plan: BatchPlan, _ decisions: [BatchDecision], _ state: BatchState
  ) throws(SurgeryError) -> [BatchJobReport] {
    var expectation = BatchExpectation(state, folder: recipe.folder)
    var reports = plan.jobs.map { BatchJobReport($0, .unchanged, reason: "nothing changed") }
    for index in plan.order {
      switch decisions[index] {
      case .unchanged: continue
      case .run(let reason, _):
        reports[index].status = .planned
        reports[index].reason = reason
        try expectation.describe(plan.jobs[index], in: &reports[index])
      case .refused(let error): reports[index].fail(with: error)
      }
    }
    return reports
  }
}

extension BatchJobReport {
  /// Says that the job failed.
  mutating func fail(with error: SurgeryError) {
    status = .failed
    self.error = Failure(id: error.id, message: error.description, hint: error.hint)
  }
}
