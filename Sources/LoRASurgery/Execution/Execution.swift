public import Checkpoints

/// The means that an operation may use: threads, memory, what reading may cost, and the lines to whoever waits for it.
///
/// Not part of a request: the same request gives the same bytes whatever the means are.
public struct Execution: Sendable {
  /// Worker threads.
  public var jobs: Int
  /// The most bytes that buffers may take together.
  public var memory: Int
  /// What reading may cost beyond what the files' sizes justify.
  public var limits: ReadLimits
  /// The token that stops the work.
  public var interruption: Interruption
  /// Where the work says how far it is.
  public var progress: Progress

  /// Collects the means of an operation.
  ///
  /// - Parameters:
  ///   - jobs: Worker threads, at most 4096; by default one for each processor.
  ///   - memory: The most bytes that buffers may take; 512 MiB by default.
  ///   - limits: What reading may cost.
  ///   - interruption: The token that stops the work.
  ///   - progress: Where the work says how far it is.
  public init(
    jobs: Int = Workers.processorCount, memory: Int = 512 << 20,
    limits: ReadLimits = ReadLimits(), interruption: Interruption = Interruption(),
    progress: Progress = Progress()
  ) {
    self.jobs = min(max(1, jobs), Self.mostJobs)
    self.memory = memory
    self.limits = limits
    self.interruption = interruption
    self.progress = progress
  }

  /// More threads than any machine has processors; the system would refuse many more.
  private static let mostJobs = 1 << 12

  /// Bytes that one worker may use for its buffers.
  var memoryPerWorker: Int { memory / jobs }
}
