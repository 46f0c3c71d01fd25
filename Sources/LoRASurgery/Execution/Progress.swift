import Synchronization

/// How far an operation is, readable from any thread while it runs.
public final class Progress: Sendable {
  /// One moment of an operation.
  public struct Snapshot: Sendable, Hashable {
    /// What is being done, such as "extracting".
    public var phase: String
    /// Bytes of input dealt with.
    public var done: Int
    /// Bytes of input in all; 0 while unknown.
    public var total: Int
  }

  private let phase = Mutex("")
  private let done = Atomic<Int>(0)
  private let total = Atomic<Int>(0)

  /// Creates a progress at the very beginning.
  public init() {}

  /// The current moment.
  public var snapshot: Snapshot {
    Snapshot(
      phase: phase.withLock { $0 }, done: done.load(ordering: .relaxed),
      total: total.load(ordering: .relaxed))
  }

  func begin(_ phase: String, total: Int) {
    self.phase.withLock { $0 = phase }
    done.store(0, ordering: .relaxed)
    self.total.store(total, ordering: .relaxed)
  }

  func advance(by bytes: Int) { done.wrappingAdd(bytes, ordering: .relaxed) }
}
