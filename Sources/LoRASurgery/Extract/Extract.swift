import Adapters
import Checkpoints
public import Tensors

extension ExtractRequest {
  /// Extracts, and writes the adapter.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What became of every tensor, with the energies after rounding.
  /// - Throws: `extract.…` for models that do not belong together, `extract.identical` where nothing differs, `rank.…` for
  ///   rank options that contradict each other, and what opening, reading and writing throw; no output is visible then.
  /// - Complexity: A few passes over both models; memory for the factors of one tensor a worker.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let (base, tuned) = (
      try Checkpoint(opening: base, limits: execution.limits),
      try Checkpoint(opening: tuned, limits: execution.limits)
    )
    let form = try form
    let plan = try ExtractPlan(self, dialect: form.dialect, base: base, tuned: tuned)
    if let part { return try run(part, of: plan, base: base, tuned: tuned, execution) }
    let inputs = (base.files + tuned.files).map(\.file.file)
    var extracted = plan.pairs.map(ExtractedTensor.init(planned:))
    if !dryRun {
      try OutputTransaction.checkDestination(
        output, kind: form.kind, replacing: force, inputs: inputs)
      extracted = try extract(plan, spool: try SpoolFile(beside: output), execution)
    }
    var report = OperationReport(
      command: "extract", extracted, unpaired: plan.unpaired,
      warnings: base.warnings + tuned.warnings)
    report.totals.bytesRead = base.byteCount + tuned.byteCount
    if !dryRun {
      try Self.checkDifference(extracted, tuned: self.tuned)
      try write(
        extracted, baseConfig: plan.baseConfig,
        fingerprint: try BaseFingerprint(
          of: base, tensors: extracted.filter { $0.content != nil }.map(\.report.tensor)),
        isTransposed: plan.isTransposed, inputs: inputs, into: &report, execution)
    }
    report.totals.measure(stopwatch)
    return report
  }

  /// How the adapter will be written.
  private var form: AdapterForm {
    get throws(SurgeryError) { try AdapterForm(path: output, dialect: dialect) }
  }

  /// Makes what the adapter keeps of the planned tensors.
  func extract(
    _ plan: ExtractPlan, spool: SpoolFile, _ execution: Execution
  ) throws(SurgeryError) -> [ExtractedTensor] {
    let form = try form
    return try Extraction(
      plan: plan, execution: execution,
      factoring: TensorFactoring(
        request: self, dialect: form.dialect, spool: spool, execution: execution)
    ).run { (isChanged) throws(SurgeryError) in
      try checkLayout(
        of: zip(plan.pairs, isChanged).lazy.filter(\.1).map(\.0), plan, spool: spool)
    }
  }

  /// Fails where the dialect cannot hold what changed.
  private func checkLayout(
    of changed: some Sequence<ExtractPlan.Pair>, _ plan: ExtractPlan, spool: SpoolFile
  ) throws(SurgeryError) {
    // Where a piece lies does not say what will be gathered.
    if part != nil, dialect == nil { return }
    let form = try form
    var standIns: [ExtractedTensor] = []
    for pair in changed {
      if let standIn = try ExtractedTensor(standingFor: pair, dialect: form.dialect, spool: spool) {
        standIns.append(standIn)
      }
    }
    if standIns.isEmpty { return }
    do throws(SurgeryError) {
      _ = try laidOut(
        try adapter(
          of: standIns, dialect: form.dialect, baseConfig: plan.baseConfig, fingerprint: nil,
          isTransposed: plan.isTransposed))
    } catch {
      if part == nil || error.id == "adapter.inexpressible" { throw error }
    }
  }

  /// Fails where nothing was found to extract.
  static func checkDifference(
    _ extracted: [ExtractedTensor], tuned: String?
  ) throws(SurgeryError) {
    guard extracted.contains(where: { $0.report.action != .unchanged }) else {
      throw SurgeryError(
        .data, "extract.identical",
        "base and tuned hold the same values: there is nothing to extract", file: tuned,
        hint: "check that --tuned is the fine-tuned model")
    }
  }

  /// Lays the adapter out, writes it, and says so in the report.
  func write(
    _ extracted: [ExtractedTensor], baseConfig: JSONValue?, fingerprint: BaseFingerprint,
    isTransposed: (TensorName) -> Bool, inputs: [InputFile], into report: inout OperationReport,
    _ execution: Execution
  ) throws(SurgeryError) {
    let form = try form
    let adapter = try adapter(
      of: extracted, dialect: form.dialect, baseConfig: baseConfig, fingerprint: fingerprint,
      isTransposed: isTransposed)
    let writing = try laidOut(adapter)
    try writing.write(replacing: force, inputs: inputs, execution)
    report.output = output
    report.warnings += writing.notes
    report.totals.bytesWritten = try writing.writtenBytes()
    report.totals.parameters = adapter.parameterCount
  }

  /// The adapter in the form of the output.
  ///
  /// - Throws: `adapter.inexpressible` with what leaves the tensor out.
  private func laidOut(_ adapter: Adapter) throws(SurgeryError) -> AdapterPlan {
    do throws(SurgeryError) {
      return try adapter.plan(to: output, options: try form.options(dtype: dtype))
    } catch {
      var error = error
      if error.id == "adapter.inexpressible" {
        error.hint =
          "--embeddings skip, --experts skip, --others skip or --exclude leave such tensors out; --to compact holds them all"
      }
      throw error
    }
  }

  private func adapter(
    of extracted: [ExtractedTensor], dialect: Dialect, baseConfig: JSONValue?,
    fingerprint: BaseFingerprint?, isTransposed: (TensorName) -> Bool
  ) throws(SurgeryError) -> Adapter {
    var provenance = Adapter.Provenance(dialect: dialect, reason: "extracted")
    provenance.command = words.joined(separator: " ")
    provenance.base = fingerprint
    provenance.baseConfig = baseConfig
    provenance.baseName = baseConfig?["_name_or_path"]?.text
    var adapter = Adapter(path: output, modules: [], provenance: provenance)
    for tensor in extracted {
      let name = tensor.report.tensor
      switch tensor.content {
      case .factors(let factors, let form):
        let isTransposed = form == .linear && isTransposed(name)
        let (up, down) = factors.factors(isTransposed: isTransposed)
        var module = ModuleUpdate(
          changing: name, by: try LowRank(up: up, down: down, form: form))
        module.extraction = tensor.report.extraction
        adapter.modules.append(module)
        if isTransposed { adapter.fanInFanOut = true }
      case .stack(let factors, let stack):
        var module = ModuleUpdate(changing: name, by: try factors.update(of: stack))
        module.extraction = tensor.report.extraction
        adapter.modules.append(module)
      case .full(let stored):
        adapter.replacements.append(
          Replacement(of: name, with: stored, reason: "extracted in full"))
      case .difference(let stored):
        adapter.modules.append(
          ModuleUpdate(changing: name, by: try FullDifference(Factor(stored))))
      case nil: break
      }
    }
    return adapter
  }

  /// The command with the options that shaped the adapter.
  private var words: [String] {
    ["extract"] + ranks.words + (dtype.map { ["--dtype \($0)"] } ?? [])
      + (method == .randomized ? [] : ["--method \(method.rawValue)"])
      + (precision == .float32 ? [] : ["--precision \(precision.rawValue)"])
      + (seed == 0 ? [] : ["--seed \(seed)"])
  }
}

extension OperationReport {
  /// The report of an extraction.
  init(
    command: String, _ extracted: [ExtractedTensor], unpaired: [TensorReport], warnings: [String]
  ) {
    self.init(command: command, modules: extracted.map(\.report) + unpaired)
    self.warnings =
      warnings
      + TensorWarnings.lines(extracted.lazy.map { ($0.report.tensor, $0.warning) })
  }
}
