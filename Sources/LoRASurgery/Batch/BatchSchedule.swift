/// Which jobs may run now, and what share of threads and memory each gets.
struct BatchSchedule {
  /// A job with its share.
  struct Turn {
    var job: Int
    var workers: Int
    var memory: Int
  }

  private let plan: BatchPlan
  private let workers: Int
  private let memory: Int
  private var ready: ReadyJobs
  private var missing: [Int]
  private var dependents: [[Int]]
  private var running = 0
  private var usedWorkers = 0
  private var usedMemory = 0
  /// Whether no further job begins.
  var isStopped = false

  /// Makes the jobs ready that nothing holds up; those that are neither outstanding nor failed count as done.
  init(
    _ plan: BatchPlan, outstanding: [Bool], failed: [Bool], workers: Int, memory: Int
  ) {
    self.plan = plan
    self.workers = workers
    self.memory = memory
    var ranks = plan.jobs.map { _ in 0 }
    for (rank, job) in plan.order.enumerated() { ranks[job] = rank }
    ready = ReadyJobs(ranks: ranks)
    missing = plan.jobs.map { _ in 0 }
    dependents = plan.jobs.map { _ in [] }
    for (index, job) in plan.jobs.enumerated() where outstanding[index] {
      for need in job.needs where outstanding[need] || failed[need] {
        missing[index] += 1
        dependents[need].append(index)
      }
    }
    for job in plan.order.reversed() where outstanding[job] && missing[job] == 0 {
      ready.insert(job)
    }
  }

  /// What a thread does next.
  enum Step {
    case run(Turn)
    /// Nothing is left to do.
    case end
  }

  /// The next job, where one is ready and its share is free; `nil` where a thread has to wait.
  ///
  /// A share is an equal part of the whole for each job that could run, so that many small jobs run side by side and a
  /// last large one has everything.
  mutating func next() -> Step? {
    if isStopped || (ready.count == 0 && running == 0) { return .end }
    guard let job = ready.first else { return nil }
    let call = plan.jobs[job].call
    let side = min(workers, ready.count + running)
    let turn = Turn(
      job: job, workers: min(workers, call.jobs ?? max(1, workers / side)),
      memory: min(memory, call.memory ?? memory / side))
    let fits = usedWorkers + turn.workers <= workers && usedMemory + turn.memory <= memory
    guard fits || running == 0 else { return nil }
    _ = ready.removeFirst()
    running += 1
    usedWorkers += turn.workers
    usedMemory += turn.memory
    return .run(turn)
  }

  /// Gives the share back; what needed the job becomes ready if it came out well.
  mutating func end(_ turn: Turn, isDone: Bool) {
    running -= 1
    usedWorkers -= turn.workers
    usedMemory -= turn.memory
    guard isDone else { return }
    for dependent in dependents[turn.job] {
      missing[dependent] -= 1
      if missing[dependent] == 0 { ready.insert(dependent) }
    }
  }
}
