public import Tensors

extension Part {
  /// The part that the scheduler's environment names.
  ///
  /// Slurm's job arrays say both numbers (`SLURM_ARRAY_TASK_ID`, `…_COUNT`, `…_MIN`, `…_STEP`, `…_MAX`). Indexed Jobs of
  /// Kubernetes (`JOB_COMPLETION_INDEX`, counted from 0) and GNU parallel (`PARALLEL_SEQ`, counted from 1) say only which
  /// task this is.
  ///
  /// - Parameters:
  ///   - count: How many parts there are; `nil` where the environment is to say.
  ///   - variable: The value of an environment variable.
  /// - Throws: `part.environment` where the environment names no task, several, or one that does not fit `count`.
  public init(
    count: Int?, environment variable: (String) -> String?
  ) throws(SurgeryError) {
    var found: [(source: String, number: Int, count: Int?)] = []
    if let id = try Self.number("SLURM_ARRAY_TASK_ID", variable) {
      let (number, tasks) = try Self.slurmTask(id, variable)
      found.append(("SLURM_ARRAY_TASK_ID", number, tasks))
    }
    if let index = try Self.number("JOB_COMPLETION_INDEX", variable) {
      found.append(("JOB_COMPLETION_INDEX", index + 1, nil))
    }
    if let sequence = try Self.number("PARALLEL_SEQ", variable) {
      found.append(("PARALLEL_SEQ", sequence, nil))
    }
    guard let task = found.first, found.count == 1 else {
      throw Self.failure(
        found.isEmpty
          ? "no task is named in the environment" : "several tasks are named in the environment",
        expected: "one of SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, PARALLEL_SEQ",
        found: found.isEmpty ? "none" : found.map(\.source).joined(separator: " and "))
    }
    guard let parts = count ?? task.count else {
      throw Self.failure(
        "\(task.source) does not say how many tasks there are", hint: "--parts N says it")
    }
    if let tasks = task.count, tasks != parts {
      throw Self.failure(
        "the job array has another number of tasks than --parts says", expected: "\(parts)",
        found: "\(tasks)", hint: "--part K/N names the part without the environment")
    }
    try self.init(task.number, of: parts)
  }

  private static func slurmTask(
    _ id: Int, _ variable: (String) -> String?
  ) throws(SurgeryError) -> (number: Int, count: Int) {
    guard let count = try number("SLURM_ARRAY_TASK_COUNT", variable),
      let first = try number("SLURM_ARRAY_TASK_MIN", variable)
    else {
      throw failure(
        "the job array is named in part", expected: "SLURM_ARRAY_TASK_COUNT and _MIN beside _ID")
    }
    let step = max(1, try number("SLURM_ARRAY_TASK_STEP", variable) ?? 1)
    let last = try number("SLURM_ARRAY_TASK_MAX", variable)
    // An array such as 1,3,7 has no even step, and its tasks no place that they could know.
    let isEven = last.map { $0 - first == step * (count - 1) } ?? true
    guard isEven, id >= first, (id - first) % step == 0 else {
      throw failure(
        "the job array's task numbers are not evenly spaced", found: "task \(id) of \(count)",
        hint: "--part K/N names the part without the environment")
    }
    return ((id - first) / step + 1, count)
  }

  private static func number(
    _ name: String, _ variable: (String) -> String?
  ) throws(SurgeryError) -> Int? {
    guard let text = variable(name), !text.isEmpty else { return nil }
    // Within the range of any scheduler, so that no sum overflows.
    guard let number = Int(text), (0..<1 << 32).contains(number) else {
      throw failure("\(name) is no number of a task", found: text)
    }
    return number
  }

  private static func failure(
    _ what: String, expected: String? = nil, found: String? = nil,
    hint: String = "--part K/N names the part"
  ) -> SurgeryError {
    SurgeryError(
      .usage, "part.environment", what, expected: expected, found: found, hint: hint)
  }
}
