import Checkpoints
import LoRASurgery
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How the process meets signals and how it ends.
///
/// A thread of its own waits for them, so nothing runs inside a signal handler: the first asks the work to stop at its
/// next block, the second removes the temporary files and ends at once. Signals that were ignored stay ignored.
enum Signals {
  /// Makes a full disk quota and a closed pipe errors of the call that met them.
  static func ignoreThoseThatWritesReport() {
    _ = signal(SIGXFSZ, SIG_IGN)
    _ = signal(SIGPIPE, SIG_IGN)
  }

  /// Hands the signals that ask to stop to `interruption`.
  static func handle(with interruption: Interruption) {
    var waited = sigset_t()
    unsafe sigemptyset(&waited)
    for number in [SIGINT, SIGTERM, SIGHUP] where !isIgnored(number) {
      unsafe sigaddset(&waited, number)
    }
    unsafe pthread_sigmask(SIG_BLOCK, &waited, nil)
    let set = waited
    Workers.detach {
      var set = set
      var first = true
      while true {
        var number: Int32 = 0
        guard unsafe sigwait(&set, &number) == 0 else { return }
        if !first {
          interruption.removeTemporaries()
          raise(number)
        }
        first = false
        if Console.isTerminal {
          Console.note("stopping after this block; a second signal stops at once")
        }
        interruption.request(signal: number)
      }
    }
  }

  private static func isIgnored(_ number: Int32) -> Bool {
    var action = sigaction()
    guard unsafe sigaction(number, nil, &action) == 0 else { return false }
    #if canImport(Darwin)
      return unsafe unsafeBitCast(action.__sigaction_u.__sa_handler, to: Int.self)
        == unsafeBitCast(SIG_IGN, to: Int.self)
    #else
      return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
        == unsafeBitCast(SIG_IGN, to: Int.self)
    #endif
  }

  /// Ends the process with the exit status of `error`, or by the signal that interrupted it.
  static func end(with error: SurgeryError) -> Never {
    if case .interrupted(let number) = error.kind { raise(number) }
    exit(exitStatus(of: error))
  }

  /// Ends the process without waiting for threads of others, as `exit` does.
  static func endAtOnce(with error: SurgeryError) -> Never { _exit(exitStatus(of: error)) }

  /// Dies of the signal, as the shell that waits for us expects.
  private static func raise(_ number: Int32) -> Never {
    _ = signal(number, SIG_DFL)
    var set = sigset_t()
    unsafe sigemptyset(&set)
    unsafe sigaddset(&set, number)
    unsafe pthread_sigmask(SIG_UNBLOCK, &set, nil)
    kill(getpid(), number)
    _exit(128 + number)
  }

  /// The exit status of each class of failure, after sysexits.h.
  static func exitStatus(of error: SurgeryError) -> Int32 {
    switch error.kind {
    case .usage: 64
    case .data: 65
    case .missingInput: 66
    case .unsupported: 69
    case .bug: 70
    case .outputRefused: 73
    case .io: 74
    case .busy: 75
    case .permission: 77
    case .interrupted(let signal): 128 + signal
    }
  }
}
