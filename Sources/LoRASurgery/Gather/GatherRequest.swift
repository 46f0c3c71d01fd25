public import Tensors

/// Makes one result of what the parts of a divided operation wrote.
public struct GatherRequest: Sendable, Codable {
  /// The pieces: what each part wrote, or folders of such.
  public var pieces: [String]
  /// Where the result goes.
  public var output: String
  /// Whether an existing output is replaced.
  public var force = false
  /// Whether the pieces are only checked.
  public var dryRun = false

  /// Asks for the result.
  public init(pieces: [String], output: String) {
    self.pieces = pieces
    self.output = output
  }

  /// Checks that all parts are there and belong together, and writes the result: the bytes that one process would have
  /// written.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What was done to every tensor, as the report of one process would say.
  /// - Throws: `part.missing`, `part.repeated`, `part.disagrees`, `part.damaged`, `part.unknown`, `part.format`, and what
  ///   reading and writing throw; no output is visible then.
  /// - Complexity: One pass over the pieces; complete files of a sharded result get a second name instead where the file
  ///   system allows it.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let pieces = try PieceSet(opening: pieces)
    var report: OperationReport
    if let origin = pieces.manifest.extraction {
      report = try gatherExtraction(pieces, origin, execution)
    } else if let origin = pieces.manifest.rewriting {
      report = try gatherRewriting(pieces, origin, execution)
    } else {
      throw Piece.damaged(pieces.pieces[0].path, "it holds neither an adapter nor a checkpoint")
    }
    report.gathered = pieces.manifest.command
    report.totals.bytesRead = pieces.manifest.inputBytes
    report.totals.measure(stopwatch)
    return report
  }
}
