public import Adapters
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
  /// The model that adapters are compared with.
  public var base: String?
  /// What the user says about adapters; a dialect makes every path an adapter.
  public var adapterOptions = AdapterOptions()

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
    let base = try self.base.map { (path) throws(SurgeryError) in
      try Checkpoint(opening: path, limits: execution.limits)
    }
    var files: [InspectedFile] = []
    for path in paths {
      let checkpoint = try Checkpoint(opening: path, limits: execution.limits)
      let tensors = checkpoint.tensors.filter { matcher.selects($0.name) }
      let statistics = stats ? try Self.statistics(of: tensors, execution) : []
      var file = InspectedFile(
        path: path, format: checkpoint.files.first?.file.format.rawValue ?? "",
        shards: checkpoint.files.count, metadata: checkpoint.metadata,
        tensors: tensors.enumerated().map { index, tensor in
          InspectedTensor(
            name: tensor.name, dtype: tensor.info.dtype.name, shape: tensor.info.shape,
            bytes: tensor.info.byteCount, stats: stats ? statistics[index] : nil)
        }, warnings: checkpoint.warnings)
      try describeAdapter(in: &file, checkpoint, base: base, execution)
      files.append(file)
    }
    return InspectReport(files: files)
  }

  /// Describes the adapter that a path holds, if it holds one.
  ///
  /// A file that looks like an adapter and cannot be read as one is still listed; the warning says what is wrong.
  private func describeAdapter(
    in file: inout InspectedFile, _ checkpoint: Checkpoint, base: Checkpoint?,
    _ execution: Execution
  ) throws(SurgeryError) {
    let isGiven = adapterOptions.dialect != nil
    guard isGiven || Adapter.isAdapter(checkpoint) else { return }
    do throws(SurgeryError) {
      let adapter = try Adapter(
        opening: file.path, options: adapterOptions, limits: execution.limits)
      var described = InspectedAdapter(adapter)
      file.warnings += adapter.provenance.warnings.filter { !file.warnings.contains($0) }
      if let base {
        file.warnings += described.compare(adapter, with: base, options: adapterOptions)
          .filter { !file.warnings.contains($0) }
      }
      if stats { try described.addNorms(of: adapter, execution) }
      file.adapter = described
    } catch {
      if isGiven || error.kind == .io { throw error }
      if case .interrupted = error.kind { throw error }
      file.warnings.append("\(error)" + (error.hint.map { "; \($0)" } ?? ""))
    }
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
