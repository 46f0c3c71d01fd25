import Synchronization
import SystemPackage
public import Tensors

/// A request to stop, and the temporary files that must go when it comes.
///
/// Work asks at every block whether it should stop and leaves by an ordinary error, so that every cleanup runs. A second
/// request may remove the temporaries at once, from any thread, before the process ends.
public final class Interruption: Sendable {
  private let signal = Atomic<Int32>(0)
  private let temporaries = Mutex<Set<FilePath>>([])

  /// Creates a token that nobody has asked to stop.
  public init() {}

  /// Asks the work to stop at its next block.
  ///
  /// - Parameter signal: The signal that asked.
  public func request(signal: Int32) { self.signal.store(signal, ordering: .relaxed) }

  /// Fails where a stop was requested.
  ///
  /// - Throws: An error of kind `interrupted`.
  public func check() throws(SurgeryError) {
    let signal = signal.load(ordering: .relaxed)
    if signal != 0 {
      throw SurgeryError(
        .interrupted(signal: signal), "interrupted",
        "stopped by signal \(signal); nothing was written")
    }
  }

  /// Removes every temporary file and folder that is still registered.
  public func removeTemporaries() {
    for path in temporaries.withLock({ $0 }) { FileSystem.removeTree(path) }
  }

  func register(_ path: FilePath) { temporaries.withLock { _ = $0.insert(path) } }

  func unregister(_ path: FilePath) { temporaries.withLock { _ = $0.remove(path) } }
}
