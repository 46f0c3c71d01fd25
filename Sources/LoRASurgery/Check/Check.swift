import Checkpoints
public import Tensors

/// Reads everything in checkpoints and lists what is wrong with it.
public struct CheckRequest: Sendable, Codable {
  /// Files and folders.
  public var paths: [String]

  /// Asks for a check.
  public init(paths: [String]) { self.paths = paths }

  /// Opens every path and reads every tensor.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: The problems found in what could be read.
  /// - Throws: What opening and reading throw: a malformed file ends the check.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> CheckReport {
    var files: [CheckReport.File] = []
    for path in paths {
      let checkpoint = try Checkpoint(opening: path, limits: execution.limits)
      execution.progress.begin("checking", total: checkpoint.byteCount)
      let tensors = checkpoint.tensors
      let problems = try Workers(count: execution.jobs).map(
        tensors.count, cost: { tensors[$0].info.byteCount },
        interruption: execution.interruption
      ) { (index) throws(SurgeryError) in
        try Self.problem(in: tensors[index], execution)
      }
      try checkpoint.checkUnchanged()
      files.append(
        CheckReport.File(
          path: path, tensors: tensors.count,
          problems: checkpoint.warnings.map { CheckReport.Problem(tensor: nil, what: $0) }
            + problems.compactMap { $0 }))
    }
    return CheckReport(files: files)
  }

  private static func problem(
    in tensor: StoredTensor, _ execution: Execution
  ) throws(SurgeryError) -> CheckReport.Problem? {
    guard tensor.info.dtype.isNumeric else {
      try tensor.readThrough(execution)
      return nil
    }
    let statistics = try TensorStatistics(
      of: tensor, interruption: execution.interruption, progress: execution.progress)
    guard let first = statistics.firstNonFinite else { return nil }
    return CheckReport.Problem(
      tensor: tensor.name,
      what:
        "\(statistics.nan) NaN and \(statistics.infinite) infinite values, the first at element \(first)"
    )
  }
}

/// What `check` found.
public struct CheckReport: Sendable, Codable {
  /// One thing that is wrong.
  public struct Problem: Sendable, Codable {
    /// The tensor, where it is in one.
    public var tensor: TensorName?
    /// What is wrong.
    public var what: String
  }

  /// One path with its problems.
  public struct File: Sendable, Codable {
    /// The path as the user named it.
    public var path: String
    /// Tensors read.
    public var tensors: Int
    /// What is wrong.
    public var problems: [Problem]
  }

  /// Always "check".
  public var command = "check"
  /// The program's version.
  public var version = Version.current
  /// One entry for each path.
  public var files: [File]

  /// Whether nothing is wrong.
  public var isClean: Bool { files.allSatisfy(\.problems.isEmpty) }
}

extension StoredTensor {
  /// Reads every byte, for what reading finds out: a file cut short, a wrong checksum.
  fileprivate func readThrough(_ execution: Execution) throws(SurgeryError) {
    do throws(SurgeryError) {
      var reader = try source.makeReader()
      var bytes = [UInt8](repeating: 0, count: min(1 << 20, info.byteCount))
      var position = 0
      while position < info.byteCount {
        try execution.interruption.check()
        let count = min(bytes.count, info.byteCount - position)
        try bytes.withMutableRawSpan(0..<count) { (span) throws(SurgeryError) in
          try reader.read(at: position, into: &span)
        }
        position += count
        execution.progress.advance(by: count)
      }
    } catch {
      throw explained(error)
    }
  }
}
