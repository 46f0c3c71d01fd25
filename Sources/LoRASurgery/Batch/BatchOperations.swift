import Checkpoints
public import Tensors

extension ExtractRequest: WritingOperation {
  /// Base and tuned are read, the adapter is written.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    visit(.input, &base)
    visit(.input, &tuned)
    visit(.output, &output)
  }

  /// The factors of all matrices, where one rank is asked for.
  public func expectedBytes(_ size: (String) -> Int?) -> Int? {
    guard let rank = ranks.rank, let model = try? Checkpoint(opening: base) else { return nil }
    return model.tensors.reduce(0) { sum, tensor in
      let shape = tensor.info.shape
      guard shape.dimensions.count >= 2, let rows = shape.dimensions.first, rows > 0 else {
        return sum
      }
      let columns = shape.elementCount / rows
      let elements = min(rank, rows, columns) * (rows + columns)
      return sum + elements * ((dtype ?? tensor.info.dtype).bitsPerElement ?? 0) / 8
    }
  }
}

extension MergeRequest: WritingOperation {
  /// Model and adapters are read, the result is written; an undo record is written by a merge and read by its inverse.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    visit(.input, &model)
    for index in adapters.indices { visit(.input, &adapters[index].path) }
    visit(.output, &output)
    if var record = undo {
      visit(direction == .merge ? .output : .input, &record)
      undo = record
    }
  }

  /// The size of the model.
  public func expectedBytes(_ size: (String) -> Int?) -> Int? { size(model) }
}

extension ResizeRequest: WritingOperation {
  /// The adapter is read, another is written.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    visit(.input, &adapter)
    visit(.output, &output)
  }

  /// The size of the adapter, which is seldom made larger.
  public func expectedBytes(_ size: (String) -> Int?) -> Int? { size(adapter) }
}

extension CombineRequest: WritingOperation {
  /// Adapters are read, one is written.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    for index in adapters.indices { visit(.input, &adapters[index].path) }
    visit(.output, &output)
  }

  /// The size of the largest adapter, or of all where their ranks add up.
  public func expectedBytes(_ size: (String) -> Int?) -> Int? {
    let sizes = adapters.compactMap { size($0.path) }
    guard sizes.count == adapters.count else { return nil }
    return method == .concat ? sizes.reduce(0, +) : sizes.max()
  }
}

extension ConvertRequest: WritingOperation {
  /// The input is read, and the base where there is one; the result is written.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    visit(.input, &input)
    if var model = base {
      visit(.input, &model)
      base = model
    }
    visit(.output, &output)
  }

  /// The size of the input, as far as no other dtype is asked for.
  public func expectedBytes(_ size: (String) -> Int?) -> Int? {
    guard let bits = dtype?.bitsPerElement else { return size(input) }
    guard let source = try? Checkpoint(opening: input) else { return nil }
    return source.tensors.reduce(0) { $0 + $1.info.shape.elementCount * bits / 8 }
  }
}

extension SpectrumRequest: BatchOperation {
  /// Base and tuned are read, and a page may be written.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    visit(.input, &base)
    visit(.input, &tuned)
    if var page = html {
      visit(.output, &page)
      html = page
    }
  }

  /// Finds the spectra.
  public func perform(_ execution: Execution) throws(SurgeryError) -> BatchOutcome {
    let report = try run(execution)
    var totals = OperationReport.Totals()
    totals.tensors = report.totals.tensors
    totals.changed = report.totals.changed
    totals.deltaNorm = report.totals.deltaNorm
    totals.bytesRead = report.totals.bytesRead
    totals.seconds = report.totals.seconds
    totals.peakMemory = report.totals.peakMemory
    return BatchOutcome(totals: totals, warnings: report.warnings)
  }
}

extension WritingOperation {
  /// Runs it; the outcome is that of the report.
  public func perform(_ execution: Execution) throws(SurgeryError) -> BatchOutcome {
    BatchOutcome(try run(execution))
  }
}

/// A request that only reads.
protocol ReadingOperation: BatchOperation {}

extension ReadingOperation {
  /// Nothing is written.
  public var force: Bool {
    get { false }
    set {}
  }
}

extension BatchOperation {
  /// Nothing is known of the result's size.
  public func expectedBytes(_ size: (String) -> Int?) -> Int? { nil }
}

extension VerifyRequest: ReadingOperation {
  /// Base, adapters and the merged model are read.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    visit(.input, &base)
    for index in adapters.indices { visit(.input, &adapters[index].path) }
    visit(.input, &merged)
  }

  /// Verifies; the answer is whether the model is what merging gives.
  public func perform(_ execution: Execution) throws(SurgeryError) -> BatchOutcome {
    let report = try run(execution)
    return BatchOutcome(answer: report.verified, warnings: report.warnings)
  }
}

extension CompareRequest: ReadingOperation {
  /// Both are read.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    visit(.input, &first)
    visit(.input, &second)
  }

  /// Compares; the answer is whether they are equal within the tolerance.
  public func perform(_ execution: Execution) throws(SurgeryError) -> BatchOutcome {
    let report = try run(execution)
    return BatchOutcome(answer: report.equal, warnings: report.warnings)
  }
}

extension CheckRequest: ReadingOperation {
  /// All paths are read.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    for index in paths.indices { visit(.input, &paths[index]) }
  }

  /// Checks; the answer is whether nothing is wrong.
  public func perform(_ execution: Execution) throws(SurgeryError) -> BatchOutcome {
    let report = try run(execution)
    let problems = report.files.flatMap { file in
      file.problems.map { problem in
        "\(file.path): " + (problem.tensor.map { "tensor \"\($0)\": " } ?? "") + problem.what
      }
    }
    return BatchOutcome(answer: report.isClean, warnings: problems)
  }
}

extension InspectRequest: ReadingOperation {
  /// All paths are read, and the base where there is one.
  public mutating func visitPaths(_ visit: (PathRole, inout String) -> Void) {
    for index in paths.indices { visit(.input, &paths[index]) }
    if var model = base {
      visit(.input, &model)
      base = model
    }
  }

  /// Inspects.
  public func perform(_ execution: Execution) throws(SurgeryError) -> BatchOutcome {
    BatchOutcome(warnings: try run(execution).files.flatMap(\.warnings))
  }
}
