import Adapters
import Checkpoints
import Tensors

/// Where and how an operation on adapters writes its result.
struct AdapterOutput {
  let path: String
  let form: AdapterForm
  var dtype: DType?
  var prefix: String?
  var force: Bool
  var dryRun: Bool
  var allowOverflow: Bool

  /// Decides on the dialect: the one asked for, or that of the input.
  ///
  /// - Throws: `output.…` where the destination is refused.
  init(
    to path: String, dialect: Dialect?, like input: Adapter, dtype: DType?, force: Bool,
    dryRun: Bool, allowOverflow: Bool
  ) throws(SurgeryError) {
    self.path = path
    form = try AdapterForm(
      path: path,
      dialect: dialect ?? Dialect(containerOf: path) ?? Self.dialect(of: input))
    self.dtype = dtype
    self.force = force
    self.dryRun = dryRun
    self.allowOverflow = allowOverflow
  }

  /// The dialect of an adapter; for a compact file the one that it was made from, where that is written.
  private static func dialect(of input: Adapter) -> Dialect {
    guard input.provenance.dialect == .compact else { return input.provenance.dialect }
    let origin = input.provenance.compact?.origin ?? .peft
    return Adapter.writtenDialects.contains(origin) ? origin : .peft
  }

  /// The spool for factors that are made, beside the output.
  ///
  /// - Throws: `output.…` where the destination is refused.
  func spool(reading inputs: [InputFile]) throws(SurgeryError) -> FactorSpool {
    try OutputTransaction.checkDestination(
      path, kind: form.kind, replacing: force, inputs: inputs)
    // Blocks are made where rows are laid out.
    let rounded = dtype == .blockQuantised(.q8_0) ? nil : dtype
    return FactorSpool(
      spool: try SpoolFile(beside: path), dtype: rounded, allowOverflow: allowOverflow)
  }

  /// Lays the adapter out, writes it unless the run is dry, and says so in the report.
  func write(
    _ adapter: Adapter, inputs: [InputFile], into report: inout OperationReport,
    _ execution: Execution
  ) throws(SurgeryError) {
    var options = form.options(dtype: dtype)
    options.prefix = prefix
    let writing = try adapter.plan(to: path, options: options)
    report.warnings += writing.notes
    report.totals.parameters = adapter.parameterCount
    if dryRun { return }
    try writing.write(replacing: force, inputs: inputs, execution)
    report.output = path
    report.totals.bytesWritten = try writing.writtenBytes()
  }
}

extension AdapterPlan {
  /// Bytes of the tensors that were written; of compact files, which are shorter than planned, bytes of the files.
  ///
  /// - Throws: What opening a file throws.
  func writtenBytes() throws(SurgeryError) -> Int {
    var count = 0
    for file in plan.files {
      guard file.format == .compact else {
        count += file.byteCount
        continue
      }
      let path = plan.kind == .folder ? "\(plan.path)/\(file.relativePath)" : plan.path
      count += try Int(clamping: InputFile(path).size)
    }
    return count
  }
}

extension Adapter {
  /// Opens an adapter to work on its factors alone, which say nothing where the base was changed before training.
  ///
  /// - Throws: What opening throws; `adapter.modified-base` with the way round, whatever residual base is given.
  init(
    factorsAt path: String, options: AdapterOptions, limits: ReadLimits
  ) throws(SurgeryError) {
    var options = options
    options.residualBase = nil
    do throws(SurgeryError) {
      self = try Adapter(opening: path, options: options, limits: limits)
    } catch {
      var error = error
      if error.id == "adapter.modified-base" {
        error.hint =
          "merge it with --residual-base and extract the difference from the base; or save it with "
          + "path_initial_model_for_weight_conversion"
      }
      throw error
    }
  }

  /// Bytes of the tensors that its updates use.
  var byteCount: Int {
    (modules.flatMap { $0.update.factors.map(\.tensor) } + replacements.map(\.tensor))
      .reduce(0) { $0 + $1.info.byteCount }
  }
}

extension ModuleUpdate {
  /// The name of the tensor that it changes, or of the module where only the base knows the tensor.
  var tensorName: TensorName {
    TensorName(target.spelling == .dotted ? target.tensorName : name)
  }

  /// The form of its factors.
  var form: LowRank.Form { (update as? LowRank)?.form ?? .linear }

  /// The kernel of a convolution, else nothing.
  var kernel: [Int] {
    if case .convolution(let kernel) = form { kernel } else { [] }
  }

  /// The shape of what it changes, as far as the factors tell it.
  var shape: Shape {
    guard !kernel.isEmpty, let shape = Shape([update.rows, inputs] + kernel) else {
      return Shape(rows: update.rows, columns: update.columns)
    }
    return shape
  }

  private var inputs: Int { update.columns / max(1, kernel.reduce(1, *)) }
}
