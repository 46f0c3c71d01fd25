import Adapters
import Checkpoints
import LinearAlgebra
public import Tensors

extension ExtractRequest {
  /// Extracts, and writes the adapter.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What became of every tensor, with the energies after rounding.
  /// - Throws: `extract.…` for models that do not belong together, `extract.identical` where nothing differs, and what
  ///   opening, reading and writing throw; no output is visible then.
  /// - Complexity: A few passes over both models; memory for the factors of one tensor a worker.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    guard rank >= 1 else {
      throw SurgeryError(
        .usage, "extract.rank", "the rank must be at least 1", found: "\(rank)")
    }
    let (base, tuned) = (try Checkpoint(opening: base), try Checkpoint(opening: tuned))
    let plan = try ExtractPlan(self, base: base, tuned: tuned)
    let inputs = (base.files + tuned.files).map(\.file.file)
    let form = try AdapterForm(path: output, dialect: dialect)
    var extracted: [ExtractedTensor] = plan.pairs.map {
      ExtractedTensor(planned: $0)
    }
    if !dryRun {
      try OutputTransaction.checkDestination(
        output, kind: form.kind, replacing: force, inputs: inputs)
      execution.progress.begin(
        "extracting", total: plan.pairs.reduce(0) { $0 + $1.tuned.info.byteCount })
      let factoring = TensorFactoring(
        request: self, spool: try SpoolFile(beside: output), execution: execution)
      extracted = try Workers(count: execution.jobs).map(
        plan.pairs.count, cost: { plan.pairs[$0].tuned.info.shape.elementCount },
        interruption: execution.interruption
      ) { (index) throws(SurgeryError) in
        defer { execution.progress.advance(by: plan.pairs[index].tuned.info.byteCount) }
        return try factoring.extract(plan.pairs[index])
      }
    }
    let adapter = try adapter(of: extracted, base: base)
    var report = OperationReport(
      command: "extract", modules: extracted.map(\.report) + plan.unpaired)
    report.warnings = base.warnings + tuned.warnings + extracted.compactMap(\.warning)
    report.totals.bytesRead = base.byteCount + tuned.byteCount
    if !dryRun {
      guard report.totals.changed > 0 else {
        throw SurgeryError(
          .data, "extract.identical",
          "base and tuned hold the same values: there is nothing to extract",
          file: self.tuned, hint: "check that --tuned is the fine-tuned model")
      }
      let writing = try adapter.plan(to: output, options: form.options(dtype: dtype))
      try writing.write(replacing: force, inputs: inputs, interruption: execution.interruption)
      report.output = output
      report.warnings += writing.notes
      report.totals.bytesWritten = writing.plan.byteCount
      report.totals.parameters = adapter.parameterCount
    }
    report.totals.seconds = stopwatch.seconds
    report.totals.peakMemory = Stopwatch.peakMemory
    return report
  }

  private func adapter(
    of extracted: [ExtractedTensor], base: Checkpoint
  ) throws(SurgeryError) -> Adapter {
    var provenance = Adapter.Provenance(dialect: dialect ?? .peft, reason: "extracted")
    provenance.baseName = base.config?["_name_or_path"]?.text
    var adapter = Adapter(path: output, modules: [], provenance: provenance)
    let architecture = Architecture(of: base)
    for tensor in extracted {
      switch tensor.content {
      case .factors(let factors, let form):
        let isTransposed =
          form == .linear && architecture.isTransposed(tensor.report.tensor) ?? false
        adapter.modules.append(
          ModuleUpdate(
            changing: tensor.report.tensor,
            by: try factors.update(form: form, isTransposed: isTransposed)))
        if isTransposed { adapter.fanInFanOut = true }
      case .full(let stored):
        adapter.replacements.append(
          Replacement(of: tensor.report.tensor, with: stored, reason: "extracted in full"))
      case nil: break
      }
    }
    return adapter
  }
}

/// What became of one tensor.
struct ExtractedTensor: Sendable {
  enum Content: Sendable {
    case factors(FactoredDelta, LowRank.Form)
    case full(StoredTensor)
  }

  var report: TensorReport
  var content: Content?
  var warning: String?

  init(_ report: TensorReport, content: Content? = nil) {
    self.report = report
    self.content = content
  }

  /// What a plan says before anything is read.
  init(planned pair: ExtractPlan.Pair) {
    let shape = pair.tuned.info.shape
    switch pair.treatment {
    case .lowRank:
      report = TensorReport(pair.tuned.name, .lowRank, shape: shape, reason: "if it differs")
    case .full: report = TensorReport(pair.tuned.name, .full, shape: shape, reason: "if it differs")
    case .skip(let reason):
      report = TensorReport(pair.tuned.name, .skipped, shape: shape, reason: reason)
    }
  }
}

extension TensorFactoring {
  /// Finds out whether a tensor changed and, if it did, makes what the adapter keeps of it.
  func extract(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> ExtractedTensor {
    let shape = pair.tuned.info.shape
    if try pair.tuned.hasSameBytes(as: pair.base, interruption: interruption) {
      return ExtractedTensor(TensorReport(pair.tuned.name, .unchanged, shape: shape))
    }
    switch pair.treatment {
    case .skip(let reason):
      return ExtractedTensor(
        TensorReport(pair.tuned.name, .skipped, shape: shape, reason: reason))
    case .full: return try extractFull(pair)
    case .lowRank(let form):
      guard let factors = try factor(pair) else {
        return ExtractedTensor(TensorReport(pair.tuned.name, .unchanged, shape: shape))
      }
      var report = TensorReport(pair.tuned.name, .lowRank, shape: shape)
      report.rank = factors.rank
      report.setEnergies(
        squaredNorm: factors.squaredNorm, squaredResidual: factors.squaredResidual)
      var extracted = ExtractedTensor(report, content: .factors(factors, form))
      if factors.fellBack {
        extracted.warning =
          "tensor \"\(pair.tuned.name)\": the search did not converge, so the exact decomposition stepped in"
      }
      return extracted
    }
  }

  private func extractFull(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> ExtractedTensor {
    var report = TensorReport(pair.tuned.name, .full, shape: pair.tuned.info.shape)
    if pair.tuned.info.dtype.isNumeric, pair.base.info.dtype.isNumeric {
      do throws(SurgeryError) {
        var delta = try DeltaMatrix<Double>(
          base: pair.base, tuned: pair.tuned, interruption: interruption)
        let squared = try squaredNorm(of: &delta)
        guard squared > 0 else {
          report.action = .unchanged
          return ExtractedTensor(report)
        }
        report.setEnergies(squaredNorm: squared, squaredResidual: 0)
      } catch {
        throw error.inFile(pair.tuned.source.file.path).inTensor(pair.tuned.name)
      }
    }
    return ExtractedTensor(report, content: .full(pair.tuned))
  }
}

extension FactoredDelta {
  /// The update that these factors of the stored matrix are, in `out x in` orientation.
  func update(form: LowRank.Form, isTransposed: Bool) throws(SurgeryError) -> LowRank {
    isTransposed
      ? try LowRank(
        up: Factor(right).transposed(), down: Factor(left).transposed(), form: form)
      : try LowRank(up: Factor(left), down: Factor(right), form: form)
  }
}
