public import Tensors

/// What a path of a request is for.
public enum PathRole: Sendable, Hashable {
  /// It is read.
  case input
  /// It is written.
  case output
}

/// A request that a batch can run: it names what it reads and writes.
public protocol BatchOperation: Sendable {
  /// Shows every path to `visit`, which may change it.
  mutating func visitPaths(_ visit: (PathRole, inout String) -> Void)

  /// Whether an existing output is replaced.
  var force: Bool { get set }

  /// Runs the operation to its end.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What came of it.
  /// - Throws: What the request throws.
  func perform(_ execution: Execution) throws(SurgeryError) -> BatchOutcome

  /// The size of the result in bytes, where the sizes of the inputs or their headers tell it.
  ///
  /// - Parameter size: The bytes of an input, in all its files.
  /// - Returns: Bytes, or `nil` where only running tells.
  func expectedBytes(_ size: (String) -> Int?) -> Int?
}

/// A request that writes one result.
public protocol WritingOperation: BatchOperation {
  /// Where the result goes.
  var output: String { get set }

  /// Runs the operation to its end.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: The report.
  /// - Throws: What the request throws.
  func run(_ execution: Execution) throws(SurgeryError) -> OperationReport
}

/// What came of one job.
public struct BatchOutcome: Sendable {
  /// The sums that the operation's report has.
  public var totals: OperationReport.Totals?
  /// The answer of an operation that asks whether something is so.
  public var answer: Bool?
  /// What the user should know.
  public var warnings: [String]

  /// Collects an outcome.
  public init(
    totals: OperationReport.Totals? = nil, answer: Bool? = nil, warnings: [String] = []
  ) {
    self.totals = totals
    self.answer = answer
    self.warnings = warnings
  }

  init(_ report: OperationReport) {
    self.init(totals: report.totals, warnings: report.warnings)
  }
}
