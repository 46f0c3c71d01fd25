import Checkpoints
import Tensors

/// What becomes of a job, decided before any job runs.
enum BatchDecision {
  /// Everything is as the last run left it.
  case unchanged
  /// It runs, for this reason, and replaces what an earlier run wrote.
  case run(reason: String, replaces: Bool)
  /// It cannot run.
  case refused(SurgeryError)
}

/// Decides for all jobs, from what is on disk and what was recorded.
struct BatchDecisions {
  private(set) var all: [BatchDecision]
  private let state: BatchState
  private let replacing: Bool
  private let writers: [String: Int]
  private var fingerprints: [String: Fingerprint?] = [:]

  /// Decides on every job; `replacing` says that outputs may go of which the state does not know that they are ours.
  init(_ plan: BatchPlan, state: BatchState, replacing: Bool) throws(SurgeryError) {
    self.state = state
    self.replacing = replacing
    all = plan.jobs.map { _ in .unchanged }
    writers = Dictionary(
      plan.jobs.enumerated().flatMap { index, job in job.outputs.map { ($0.place, index) } },
      uniquingKeysWith: { first, _ in first })
    for index in plan.order {
      do throws(SurgeryError) {
        all[index] = try decision(on: plan.jobs[index], in: plan)
      } catch {
        all[index] = .refused(error)
      }
    }
  }

  /// Why the first job that cannot run cannot.
  var firstRefusal: Batch.Failure? {
    for case .refused(let error) in all { return .error(error) }
    return nil
  }

  /// The state of an input, looked at once for all jobs that read it.
  private mutating func fingerprint(of input: BatchPath) throws(SurgeryError) -> Fingerprint? {
    if let known = fingerprints[input.place] { return known }
    let found = try Fingerprint(of: input.path, withCompanions: true)
    fingerprints[input.place] = found
    return found
  }

  private mutating func decision(
    on job: BatchJob, in plan: BatchPlan
  ) throws(SurgeryError) -> BatchDecision {
    guard let reason = try reason(for: job, in: plan) else { return .unchanged }
    for input in job.inputs where try fingerprint(of: input) == nil && !isWritten(input) {
      throw SurgeryError(
        .missingInput, "file.missing", "no such file or folder", file: input.path)
    }
    var replaces = false
    for output in job.outputs {
      guard let found = try Fingerprint(of: output.path) else { continue }
      replaces = true
      if replacing || isOurs(output, found) { continue }
      guard try job.asked().force else {
        throw SurgeryError(
          .outputRefused, "output.exists",
          state.record(ofOutput: output.text) == nil
            ? "the output exists, and no earlier run of this recipe wrote it"
            : "the output is not as an earlier run of this recipe wrote it", file: output.path,
          hint: "--force replaces it")
      }
    }
    return .run(reason: reason, replaces: replaces)
  }

  /// Bytes of what a job reads, as far as it exists.
  mutating func inputBytes(of job: BatchJob) -> Int {
    // What cannot be read counts for nothing here; the job that reads it says why.
    job.inputs.reduce(0) { $0 + ((try? fingerprint(of: $1))??.bytes ?? 0) }
  }

  private func isWritten(_ input: BatchPath) -> Bool {
    ([input.place] + Places.folders(above: input.place)).contains { writers[$0] != nil }
  }

  /// Why a job has to run, or `nil`.
  private mutating func reason(
    for job: BatchJob, in plan: BatchPlan
  ) throws(SurgeryError) -> String? {
    guard let record = state.record(of: job.call.words) else {
      for output in job.outputs {
        guard let record = state.record(ofOutput: output.text) else { continue }
        let (old, new) = (Set(record.words), Set(job.call.words))
        let changes =
          job.call.words.filter { !old.contains($0) }
          + record.words.filter { !new.contains($0) }.map { "no longer \($0)" }
        return "options changed: \(changes.joined(separator: ", "))"
      }
      return job.outputs.contains { state.wasBegun($0.text) }
        ? "not finished by an earlier run" : "new"
    }
    for need in job.needs.sorted() {
      switch all[need] {
      case .unchanged: continue
      case .run: return "\(plan.jobs[need].name) runs before it"
      case .refused: return "\(plan.jobs[need].name) has not run"
      }
    }
    for input in job.inputs {
      if try fingerprint(of: input)?.text != record.inputs[input.text] {
        return "input \(input.text) changed"
      }
    }
    for output in job.outputs {
      guard let found = try Fingerprint(of: output.path) else {
        return "output \(output.text) is missing"
      }
      if found.text != record.outputs[output.text] { return "output \(output.text) changed" }
      if state.wasBegun(output.text) { return "not finished by an earlier run" }
    }
    return nil
  }

  /// Whether what is at an output's place was written by an earlier run of the recipe.
  private func isOurs(_ output: BatchPath, _ found: Fingerprint) -> Bool {
    if state.wasBegun(output.text) { return true }
    if state.record(ofOutput: output.text)?.outputs[output.text] == found.text { return true }
    // Written before the state that was lost: that state was ours, and so was what it told of.
    return state.lost.map { found.modified <= $0 } ?? false
  }
}
