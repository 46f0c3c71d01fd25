import LoRASurgery
import Synchronization

/// Shows progress on standard error while an operation runs longer than a second.
///
/// On a terminal one line is redrawn; elsewhere a line appears every ten seconds.
final class ProgressBar: Sendable {
  private let progress: Progress
  private let stopped = Atomic<Bool>(false)
  private let drawn = Atomic<Bool>(false)

  init(_ progress: Progress) { self.progress = progress }

  /// Starts drawing.
  func start() {
    let start = ContinuousClock.now
    let isTerminal = Console.isTerminal
    Workers.detach { [self] in
      var shown = start
      while !stopped.load(ordering: .relaxed) {
        Workers.sleep(milliseconds: 100)
        let elapsed = Self.seconds(ContinuousClock.now - start)
        guard elapsed > 1, !stopped.load(ordering: .relaxed) else { continue }
        if isTerminal {
          Console.noteRaw(
            "\r\u{1B}[2K" + Self.line(progress.snapshot, elapsed, width: Console.width))
          drawn.store(true, ordering: .relaxed)
        } else if ContinuousClock.now - shown >= .seconds(10) {
          shown = ContinuousClock.now
          Console.note(Self.line(progress.snapshot, elapsed, width: 80))
        }
      }
    }
  }

  /// Stops drawing and clears the line.
  func stop() {
    stopped.store(true, ordering: .relaxed)
    if drawn.load(ordering: .relaxed) { Console.noteRaw("\r\u{1B}[2K") }
  }

  private static func seconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
  }

  private static func line(_ now: Progress.Snapshot, _ elapsed: Double, width: Int) -> String {
    let rate = Double(now.done) / elapsed
    guard now.total > 0 else { return "\(now.phase) \(Quantities.bytes(now.done))" }
    let share = min(1, Double(now.done) / Double(now.total))
    let left = rate > 0 ? Double(now.total - now.done) / rate : 0
    let words =
      "\(now.phase) \(Quantities.bytes(now.done)) of \(Quantities.bytes(now.total)), "
      + "\(Quantities.bytes(Int(rate)))/s, \(Quantities.duration(max(0, left))) left"
    let room = width - words.count - 4
    guard room >= 10 else { return words }
    let full = Int(share * Double(min(room, 30)))
    return "[" + String(repeating: "#", count: full)
      + String(repeating: ".", count: min(room, 30) - full) + "] " + words
  }
}
