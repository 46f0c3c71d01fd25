import LoRASurgery
import Synchronization

/// Shows progress on standard error while an operation runs longer than a second.
///
/// On a terminal one line is redrawn; elsewhere, and in a log of JSON, a line appears every ten seconds.
final class ProgressBar: Sendable {
  private struct State {
    var isStopped = false
    var isDrawn = false
  }

  private let progress: Progress
  private let state = Mutex(State())

  init(_ progress: Progress) { self.progress = progress }

  /// Starts drawing.
  func start() {
    let start = ContinuousClock.now
    let redraws = Console.isTerminal && ConsoleStyle.current.logFormat == .text
    Workers.detach { [self] in
      var shown = start
      while !(state.withLock { $0.isStopped }) {
        Workers.sleep(milliseconds: 100)
        let elapsed = Self.seconds(ContinuousClock.now - start)
        let isDue = redraws ? elapsed > 1 : ContinuousClock.now - shown >= .seconds(10)
        guard isDue else { continue }
        shown = ContinuousClock.now
        // Under the lock, so that nothing is drawn after the line was taken away.
        state.withLock { state in
          if state.isStopped { return }
          if redraws {
            Console.redraw(Self.line(progress.snapshot, elapsed, width: Console.width))
            state.isDrawn = true
          } else {
            Self.log(progress.snapshot, elapsed)
          }
        }
      }
    }
  }

  /// Stops drawing and clears the line.
  func stop() {
    state.withLock { state in
      state.isStopped = true
      if state.isDrawn { Console.clearLine() }
    }
  }

  private static func seconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
  }

  private static func log(_ now: Progress.Snapshot, _ elapsed: Double) {
    let line = line(now, elapsed, width: 80)
    var entry = LogEntry(.progress, line)
    entry.phase = now.phase
    entry.done = now.done
    entry.total = now.total
    entry.seconds = elapsed
    Console.log(entry) { line }
  }

  /// A bar and words where there is room for both, else as many words as there is room for.
  private static func line(_ now: Progress.Snapshot, _ elapsed: Double, width: Int) -> String {
    guard now.total > 0 else { return "\(now.phase) \(Quantities.bytes(now.done))" }
    let rate = Double(now.done) / elapsed
    let share = min(1, Double(now.done) / Double(now.total))
    let left = rate > 0 ? Double(now.total - now.done) / rate : 0
    let short = "\(now.phase) \(Quantities.decimals(share * 100, 0)) %"
    let words =
      "\(now.phase) \(Quantities.bytes(now.done)) of \(Quantities.bytes(now.total)), "
      + "\(Quantities.bytes(Int(rate)))/s, \(Quantities.duration(max(0, left))) left"
    let room = min(30, width - words.count - 4)
    guard room >= 10 else { return words.count < width ? words : short }
    let full = Int(share * Double(room))
    return "[" + String(repeating: "#", count: full)
      + String(repeating: ".", count: room - full) + "] " + words
  }
}
