import Checkpoints
import Synchronization
public import Tensors

/// An operation on one input after the other, where a failure stops only its own input.
public struct InputList: Sendable {
  /// One input, and where its result goes, if it has one.
  public struct Item: Sendable, Hashable {
    /// The path of the input.
    public var input: String
    /// The path of the result.
    public var output: String?

    /// Pairs an input with its output.
    public init(input: String, output: String? = nil) {
      self.input = input
      self.output = output
    }
  }

  /// What became of an input.
  public enum Outcome<Report: Sendable>: Sendable {
    /// Its report.
    case done(Report)
    /// Nothing was done, for the reason given.
    case skipped(String)
    /// What went wrong.
    case failed(SurgeryError)
  }

  /// The inputs.
  public var items: [Item]
  /// When a result that is there is made again.
  public var renewal: Renewal

  /// Lists inputs.
  public init(_ items: [Item], renewal: Renewal = .always) {
    self.items = items
    self.renewal = renewal
  }

  /// The items that are a part's, by the sizes of the inputs.
  ///
  /// - Parameter part: The part.
  /// - Returns: The list of those items, in the same order.
  public func share(of part: Part) -> InputList {
    let sizes = items.map { PathFacts(of: $0.input)?.size ?? 0 }
    return InputList(part.share(of: sizes).map { items[$0] }, renewal: renewal)
  }

  /// Runs an operation on every item, several at a time.
  ///
  /// - Parameters:
  ///   - execution: Threads and memory of all together; workers are shared out to items first.
  ///   - operation: Deals with one item; the means that it gets are its share.
  ///   - receive: Gets each outcome in the order of the list, one at a time.
  /// - Throws: What an interruption throws; failures of items go to `receive`.
  public func run<Report: Sendable>(
    _ execution: Execution,
    operation: @escaping @Sendable (Item, Execution) throws(SurgeryError) -> Report,
    receive: @escaping @Sendable (Item, Outcome<Report>) -> Void
  ) throws(SurgeryError) {
    let atOnce = max(1, min(execution.jobs, items.count))
    var share = execution
    share.jobs = execution.jobs / atOnce
    share.memory = execution.memory / atOnce
    share.progress = Progress()
    let own = share
    let sizes = items.map { PathFacts(of: $0.input)?.size ?? 0 }
    let waiting = Mutex((next: 0, outcomes: [Int: Outcome<Report>]()))
    execution.progress.begin("\(items.count, counting: "input")", total: sizes.reduce(0, +))
    try Workers(count: atOnce).run(
      steps: items.count, interruption: execution.interruption, makeState: { () }
    ) { (_, index) throws(SurgeryError) in
      let outcome = try outcome(of: items[index], own, operation)
      execution.progress.advance(by: sizes[index])
      waiting.withLock { waiting in
        waiting.outcomes[index] = outcome
        while let ready = waiting.outcomes.removeValue(forKey: waiting.next) {
          receive(items[waiting.next], ready)
          waiting.next += 1
        }
      }
    }
  }

  private func outcome<Report: Sendable>(
    of item: Item, _ execution: Execution,
    _ operation: (Item, Execution) throws(SurgeryError) -> Report
  ) throws(SurgeryError) -> Outcome<Report> {
    if let output = item.output, let reason = renewal.reasonToSkip(item.input, output) {
      return .skipped(reason)
    }
    do throws(SurgeryError) {
      return .done(try operation(item, execution))
    } catch {
      if case .interrupted = error.kind { throw error }
      return .failed(error)
    }
  }
}
