import Tensors

/// A number of cores that more threads share: who computes holds one, who waits for a disk lends it to another.
final class Cores: Sendable {
  private let free: Monitor<Int>

  init(count: Int) { free = Monitor(max(1, count)) }

  /// Waits for a core, and holds it while `body` runs.
  func take(_ body: () throws(SurgeryError) -> Void) throws(SurgeryError) {
    acquire()
    defer { release() }
    try body()
  }

  /// Lends the caller's core to others while `body` runs.
  func lend(_ body: () throws(SurgeryError) -> Void) throws(SurgeryError) {
    release()
    defer { acquire() }
    try body()
  }

  private func acquire() {
    free.wait { count -> Void? in
      if count == 0 { return nil }
      count -= 1
      return ()
    }
  }

  private func release() { free.update { $0 += 1 } }
}
