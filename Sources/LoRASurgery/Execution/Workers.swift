import Checkpoints
import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A fixed number of threads that take steps from one list.
///
/// These are threads and not tasks, because the steps block on files and run long in BLAS; Swift's own
/// threads are few and must not wait.
public struct Workers: Sendable {
  let count: Int

  /// Processors that this process may use.
  public static var processorCount: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// Runs `body` once for each step index in `0..<steps`, in claiming order, on all threads.
  ///
  /// Each thread makes one state and keeps it for all its steps, so that buffers are allocated once. When a step fails,
  /// those before it still finish and the failure of the lowest index is thrown: the same input gives the same error.
  /// `whenFailed` may tell those that wait for it.
  func run<State>(
    steps: Int, interruption: Interruption,
    makeState: @escaping @Sendable () throws(SurgeryError) -> State,
    whenFailed: @escaping @Sendable (_ step: Int) -> Void = { _ in },
    body: @escaping @Sendable (inout State, Int) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    let queue = StepQueue(steps: steps)
    let work: @Sendable () -> Void = {
      var index = 0
      do throws(SurgeryError) {
        var state = try makeState()
        while let next = queue.claim() {
          index = next
          try interruption.check()
          try body(&state, next)
        }
      } catch {
        queue.fail(at: index, error)
        whenFailed(index)
      }
    }
    let threads = (1..<max(1, min(count, steps))).compactMap { _ in Self.start(work) }
    work()
    for thread in threads { pthread_join(thread, nil) }
    try queue.throwFailure()
  }

  /// Computes a value for each index in `0..<count`, the costliest first, so that no thread is left with a long step at the end.
  func map<Value: Sendable>(
    _ count: Int, cost: (Int) -> Int, interruption: Interruption,
    _ value: @escaping @Sendable (Int) throws(SurgeryError) -> Value
  ) throws(SurgeryError) -> [Value] {
    let order = (0..<count).map { ($0, cost($0)) }.sorted { ($1.1, $0.0) < ($0.1, $1.0) }.map(\.0)
    let values = Mutex([Value?](repeating: nil, count: count))
    try run(
      steps: count, interruption: interruption, makeState: { () }
    ) { (_, step) throws(SurgeryError) in
      let computed = try value(order[step])
      values.withLock { $0[order[step]] = computed }
    }
    return values.withLock { $0 }.compactMap { $0 }
  }

  private final class Job: Sendable {
    let work: @Sendable () -> Void
    init(_ work: @escaping @Sendable () -> Void) { self.work = work }
  }

  /// Starts a thread, or returns `nil` where the system has none left; the calling thread works in any case.
  private static func start(_ work: @escaping @Sendable () -> Void) -> pthread_t? {
    let job = unsafe Unmanaged.passRetained(Job(work))
    #if canImport(Darwin)
      var thread: pthread_t?
    #else
      var thread = pthread_t()
    #endif
    let status = unsafe pthread_create(
      &thread, nil,
      { argument in
        #if canImport(Darwin)
          unsafe Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().work()
        #else
          if let argument = unsafe argument {
            unsafe Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().work()
          }
        #endif
        return nil
      }, job.toOpaque())
    guard status == 0 else {
      unsafe job.release()
      return nil
    }
    return thread
  }
}

/// Hands out step indices and keeps the failure of the lowest one.
private final class StepQueue: Sendable {
  private let steps: Int
  private let next = Atomic<Int>(0)
  private let failure = Mutex<(index: Int, error: SurgeryError)?>(nil)

  init(steps: Int) { self.steps = steps }

  func claim() -> Int? {
    let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
    guard index < steps else { return nil }
    return failure.withLock { $0.map { index < $0.index } ?? true } ? index : nil
  }

  func fail(at index: Int, _ error: SurgeryError) {
    failure.withLock { known in
      if known.map({ index < $0.index }) ?? true { known = (index, error) }
    }
  }

  func throwFailure() throws(SurgeryError) {
    if let (_, error) = failure.withLock({ $0 }) { throw error }
  }
}

extension Workers {
  /// Runs `work` on a thread of its own that nobody waits for.
  public static func detach(_ work: @escaping @Sendable () -> Void) {
    if let thread = start(work) { pthread_detach(thread) }
  }

  /// Sleeps on the calling thread.
  public static func sleep(milliseconds: UInt32) { usleep(milliseconds * 1000) }
}
