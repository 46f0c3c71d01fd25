import Checkpoints
import Synchronization
public import Tensors

/// Lists what lies in checkpoints and adapters.
public struct InspectRequest: Sendable, Codable {
  /// Files and folders.
  public var paths: [String]
  /// Whether to read the data and describe each tensor's elements.
  public var stats: Bool
  /// Which tensors to list.
  public var selection: Selection

  /// Asks for a listing.
  public init(paths: [String], stats: Bool = false, selection: Selection = Selection()) {
    self.paths = paths
    self.stats = stats
    self.selection = selection
  }

  /// Opens every path and describes it; no data is read unless statistics are asked for.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: One entry for each path.
  /// - Throws: What opening throws.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> InspectReport {
    let matcher = try selection.matcher()
    var files: [InspectedFile] = []
    for path in paths {
      let checkpoint = try Checkpoint(opening: path)
      let tensors = checkpoint.tensors.filter { matcher.selects($0.name) }
      let statistics = stats ? try Self.statistics(of: tensors, execution) : []
      files.append(
        InspectedFile(
          path: path, format: checkpoint.files.first?.file.format.rawValue ?? "",
          shards: checkpoint.files.count, metadata: checkpoint.metadata,
          tensors: tensors.enumerated().map { index, tensor in
            InspectedTensor(
              name: tensor.name, dtype: tensor.info.dtype.name, shape: tensor.info.shape,
              bytes: tensor.info.byteCount, stats: stats ? statistics[index] : nil)
          }, warnings: checkpoint.warnings))
    }
    return InspectReport(files: files)
  }

  private static func statistics(
    of tensors: [StoredTensor], _ execution: Execution
  ) throws(SurgeryError) -> [TensorStatistics?] {
    execution.progress.begin("reading", total: tensors.reduce(0) { $0 + $1.info.byteCount })
    return try Workers(count: execution.jobs).map(
      tensors.count, cost: { tensors[$0].info.byteCount }, interruption: execution.interruption
    ) { (index) throws(SurgeryError) in
      guard tensors[index].info.dtype.isNumeric else { return nil }
      return try TensorStatistics(
        of: tensors[index], interruption: execution.interruption, progress: execution.progress)
    }
  }
}
