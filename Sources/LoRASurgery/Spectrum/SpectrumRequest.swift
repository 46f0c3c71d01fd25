import Adapters
import Checkpoints
import LinearAlgebra
public import Tensors

/// Looks at the singular values of the difference of two models, to choose a rank before extracting.
public struct SpectrumRequest: Sendable, Codable {
  /// The model before tuning.
  public var base: String
  /// The model after tuning.
  public var tuned: String
  /// How many of the leading singular values of each matrix are reported.
  public var values = 64
  /// Where a page with curves, a heat map and a table goes.
  public var html: String?
  /// Whether an existing page is replaced.
  public var force = false
  /// The precision of the arithmetic.
  public var precision = Precision.float32
  /// Which tensors take part.
  public var selection = Selection()
  /// Whether tensors in only one of the two models are left out instead of refused.
  public var allowMissing = false

  /// Asks for the spectra.
  ///
  /// - Parameters:
  ///   - base: The model before tuning: a file or folder.
  ///   - tuned: The model after tuning.
  public init(base: String, tuned: String) {
    self.base = base
    self.tuned = tuned
  }

  /// Finds the spectra, and writes the page where one is asked for.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: One entry for each tensor of the tuned model, and for those of the base alone.
  /// - Throws: `rank.range` for fewer than one value, `extract.…` for models that do not belong together,
  ///   `spectrum.identical` where nothing differs, `la.not-finite`, and what opening, reading and writing throw.
  /// - Complexity: That of an extraction at rank ``values``, without its last pass.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> SpectrumReport {
    guard values >= 1 else {
      throw .rankRange("values", expected: "at least 1", found: "\(values)")
    }
    let stopwatch = Stopwatch()
    let (base, tuned) = (
      try Checkpoint(opening: base, limits: execution.limits),
      try Checkpoint(opening: tuned, limits: execution.limits)
    )
    let plan = try ExtractPlan(pairing, dialect: .peft, base: base, tuned: tuned)
    let inputs = (base.files + tuned.files).map(\.file.file)
    if let html {
      try OutputTransaction.checkDestination(html, kind: .file, replacing: force, inputs: inputs)
    }
    let search = SpectrumSearch(
      leading: values, precision: precision, interruption: execution.interruption)
    execution.progress.begin("decomposing", total: plan.byteCount)
    let found = try Workers(count: execution.jobs).map(
      plan.pairs.count, cost: { plan.pairs[$0].tuned.info.shape.elementCount },
      interruption: execution.interruption
    ) { (index) throws(SurgeryError) in
      defer { execution.progress.advance(by: plan.pairs[index].tuned.info.byteCount) }
      return try search.examine(plan.pairs[index])
    }
    guard found.contains(where: { $0.action != .unchanged && $0.action != .skipped }) else {
      throw SurgeryError(
        .data, "spectrum.identical",
        "base and tuned hold the same values: there is no spectrum", file: self.tuned,
        hint: "check that --tuned is the fine-tuned model and that the tensors are selected")
    }
    var report = SpectrumReport(
      self,
      modules: found
        + plan.unpaired.map {
          TensorSpectrum($0.tensor, .skipped, shape: $0.shape, reason: $0.reason)
        })
    report.warnings = base.warnings + tuned.warnings
    report.totals.bytesRead = base.byteCount + tuned.byteCount
    if let html {
      try write(SpectrumPage(report).text, to: html, inputs: inputs, execution.interruption)
      report.html = html
    }
    report.totals.measure(stopwatch)
    return report
  }

  /// The extraction whose plan pairs the tensors: under a budget no rule keeps a small matrix whole.
  private var pairing: ExtractRequest {
    var ranks = RankOptions()
    ranks.budget = .share(1)
    var request = ExtractRequest(base: base, tuned: tuned, output: "", ranks: ranks)
    request.selection = selection
    request.allowMissing = allowMissing
    return request
  }

  private func write(
    _ page: String, to path: String, inputs: [InputFile], _ interruption: Interruption
  ) throws(SurgeryError) {
    let bytes = Array(page.utf8)
    let transaction = try OutputTransaction(
      path: path, kind: .file, replacing: force, inputs: inputs, interruption: interruption)
    let file = try transaction.makeFile("", size: UInt64(bytes.count))
    try file.write(bytes, at: 0)
    try transaction.commit([file])
  }
}
