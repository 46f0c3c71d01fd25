import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A number of cores that more threads share: who computes holds one, who waits for a disk lends it to another.
@safe
final class Cores: Sendable {
  @unsafe private struct State {
    var mutex = unsafe pthread_mutex_t()
    var condition = pthread_cond_t()
    var free: Int
  }

  // A mutex must not move, so it cannot lie in a Swift value; all access goes through the three functions below.
  nonisolated(unsafe) private let state: UnsafeMutablePointer<State>

  init(count: Int) {
    unsafe state = .allocate(capacity: 1)
    unsafe state.initialize(to: unsafe State(free: max(1, count)))
    unsafe pthread_mutex_init(&state.pointee.mutex, nil)
    unsafe pthread_cond_init(&state.pointee.condition, nil)
  }

  deinit {
    unsafe pthread_cond_destroy(&state.pointee.condition)
    unsafe pthread_mutex_destroy(&state.pointee.mutex)
    unsafe state.deinitialize(count: 1)
    unsafe state.deallocate()
  }

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
    unsafe pthread_mutex_lock(&state.pointee.mutex)
    while unsafe state.pointee.free == 0 {
      unsafe pthread_cond_wait(&state.pointee.condition, &state.pointee.mutex)
    }
    unsafe state.pointee.free -= 1
    unsafe pthread_mutex_unlock(&state.pointee.mutex)
  }

  private func release() {
    unsafe pthread_mutex_lock(&state.pointee.mutex)
    unsafe state.pointee.free += 1
    unsafe pthread_cond_signal(&state.pointee.condition)
    unsafe pthread_mutex_unlock(&state.pointee.mutex)
  }
}
