import Adapters
import Checkpoints
import LinearAlgebra
public import Tensors

extension ResizeRequest {
  /// Resizes, and writes the adapter.
  ///
  /// Every pair of factors is decomposed without forming its product, in double precision; the factors of the new rank
  /// are balanced, and the scale is in them.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: What became of every module, with the energies after rounding.
  /// - Throws: `rank.…` for options that make no sense, `resize.nothing` where no module is low-rank, and what opening,
  ///   reading and writing throw; no output is visible then.
  /// - Complexity: O((*out* + *in*) · *rank*²) for each module, twice with a budget; memory for the factors of one module
  ///   a worker.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> OperationReport {
    let stopwatch = Stopwatch()
    let choice = try ranks.choice(isRequired: true)
    let source = try Adapter(
      factorsAt: adapter, options: adapterOptions, limits: execution.limits)
    let plan = try ResizePlan(source, choice: choice, selection: selection)
    let output = try AdapterOutput(
      to: output, dialect: dialect, like: source, dtype: dtype, force: force, dryRun: dryRun,
      allowOverflow: allowOverflow)
    let inputs = source.inputs
    let workers = Workers(count: execution.jobs)
    let spool = try output.spool(reading: inputs)
    execution.progress.begin("resizing", total: source.byteCount)
    var fixed: [Int?] = plan.steps.map { _ in nil }
    if let budget = choice.budget {
      let items = try workers.map(
        plan.steps.count, cost: { plan.steps[$0].cost }, interruption: execution.interruption
      ) { (index) throws(SurgeryError) in try plan.steps[index].item(storedAs: dtype) }
      fixed = try RankAllocation(
        items, budget: budget, parameters: source.parameterCount
      ).ranks
    }
    let chosen = fixed
    let outcomes = try workers.map(
      plan.steps.count, cost: { plan.steps[$0].cost }, interruption: execution.interruption
    ) { (index) throws(SurgeryError) in
      defer { execution.progress.advance(by: plan.steps[index].byteCount) }
      return try plan.steps[index].resized(to: chosen[index], spool)
    }
    var result = source
    result.modules = plan.kept
    var reports = plan.reports
    for (step, outcome) in zip(plan.steps, outcomes) {
      reports[step.position] = outcome.report
      result.modules[step.position] = outcome.module
    }
    result.modules = zip(result.modules, reports).filter { $1.rank != 0 }.map(\.0)
    var report = OperationReport(command: "resize", modules: reports)
    report.input = adapter
    report.warnings = source.provenance.warnings
    report.totals.bytesRead = source.byteCount
    result.provenance.command = (["resize"] + ranks.words).joined(separator: " ")
    try output.write(result, inputs: inputs, into: &report, execution)
    report.totals.measure(stopwatch)
    return report
  }
}

/// What happens to each module of an adapter that is resized.
struct ResizePlan {
  /// Every module, of which those with a step are replaced.
  let kept: [ModuleUpdate]
  private(set) var reports: [TensorReport] = []
  private(set) var steps: [ResizeStep] = []

  init(
    _ adapter: Adapter, choice: RankChoice, selection: Selection
  ) throws(SurgeryError) {
    let matcher = try selection.matcher()
    kept = adapter.modules
    for (position, module) in adapter.modules.enumerated() {
      let name = module.tensorName
      var report = TensorReport(name, .copied, shape: module.shape)
      report.rank = module.update.rank
      if !matcher.selects(name) {
        report.reason = "not selected"
      } else if let unsolved = module.update as? UnsolvedPair {
        throw SurgeryError(
          .data, "adapter.ambiguous-orientation",
          "which product of the factors is meant is only known from the base",
          file: adapter.path, tensor: unsolved.first.tensor.name.text,
          hint: "convert the adapter to PEFT with --base first")
      } else if module.update.rankOfProducts == nil {
        report.reason = "not low-rank (\(module.update.algorithm))"
      } else {
        steps.append(
          ResizeStep(
            position: position, module: module,
            scale: try module.scaleForArithmetic(of: adapter),
            // A kernel of 1 x 1 is a convolution for sd-scripts when it resizes, though not when it extracts
            // (sd-scripts:networks/resize_lora.py).
            rule: choice.rule(for: name, usesConvRank: !module.kernel.isEmpty)))
      }
      reports.append(report)
    }
    for replacement in adapter.replacements {
      reports.append(
        TensorReport(
          replacement.tensorName, .copied, shape: replacement.tensor.info.shape,
          reason: replacement.reason))
    }
    guard !steps.isEmpty else {
      throw SurgeryError(
        .data, "resize.nothing", "no module of the adapter has low-rank factors to resize",
        file: adapter.path, found: Set(adapter.modules.map(\.update.algorithm)).sorted().first,
        hint: "convert --as lora factors other updates anew")
    }
  }
}

/// One module to be resized.
struct ResizeStep: Sendable {
  let position: Int
  let module: ModuleUpdate
  let scale: Double
  let rule: RankRule

  var cost: Int { (module.update.rows + module.update.columns) * (module.update.rank ?? 1) }
  var byteCount: Int { module.update.factors.reduce(0) { $0 + $1.tensor.info.byteCount } }
  private var dtype: DType { module.update.factors.first?.dtype ?? .f32 }

  private func factors() throws(SurgeryError) -> [Factors<Double>] {
    guard let factors = try module.update.products(as: Double.self) else {
      throw SurgeryError(.bug, "bug.resize", "no factors to resize", tensor: module.name)
    }
    return factors.map { $0.scaled(by: scale) }
  }

  /// The spectrum, for a budget.
  func item(storedAs asked: DType?) throws(SurgeryError) -> RankAllocation.Item {
    RankAllocation.Item(
      spectrum: try factors().decomposed().spectrum, rule: rule, dtype: asked ?? dtype,
      defaultRank: module.update.rankOfProducts ?? 1)
  }

  /// The module with the factors of its new rank; a rank of 0 leaves them as they are, to be dropped.
  func resized(
    to given: Int?, _ spool: FactorSpool
  ) throws(SurgeryError) -> (module: ModuleUpdate, report: TensorReport) {
    let factors = try factors()
    let decompositions = try factors.decomposed()
    let spectrum = decompositions.spectrum
    let own = module.update.rankOfProducts ?? 0
    let rank = given ?? rule.rank(for: spectrum, orElse: own)
    var report = TensorReport(module.tensorName, .lowRank, shape: module.shape)
    report.rank = rank
    report.reason = rank == own ? nil : "rank \(own) to \(rank)"
    let energy = spectrum.totalEnergy
    guard rank > 0 else {
      report.action = .skipped
      report.reason = "rank \(own) to 0"
      report.setEnergies(squaredNorm: energy, squaredResidual: energy)
      return (module, report)
    }
    let pair = try spool.store(decompositions.map { $0.factors(rank: rank) }, like: dtype)
    report.setEnergies(
      squaredNorm: energy, squaredResidual: try factors.squaredDistance(to: pair.rounded))
    var resized = module
    resized.update = try module.update.replacingProducts(
      up: pair.up, down: pair.down, form: module.form)
    resized.scale = 1
    resized.alpha = Double(rank)
    return (resized, report)
  }
}

extension [Factors<Double>] {
  /// The decompositions of the products.
  func decomposed() throws(SurgeryError) -> [ProductSVD<Double>] {
    try map { (factors) throws(SurgeryError) in try ProductSVD(factors) }
  }

  /// The sum of the squared Frobenius norms of the products.
  func squaredNorm() throws(SurgeryError) -> Double {
    var sum = 0.0
    for factors in self { sum += try factors.squaredNorm() }
    return sum
  }

  /// The sum of the squared Frobenius norms of the differences to other products.
  func squaredDistance(to others: Self) throws(SurgeryError) -> Double {
    var sum = 0.0
    for (own, other) in zip(self, others) { sum += try own.squaredDistance(to: other) }
    return sum
  }
}

extension [ProductSVD<Double>] {
  /// The spectrum for the one rank that all matrices get.
  var spectrum: Spectrum { count == 1 ? self[0].spectrum : Spectrum(together: map(\.spectrum)) }
}

extension ProductSVD {
  /// All singular values of the product: beyond its rank they are zero.
  var spectrum: Spectrum {
    let count = min(left.columns, right.columns)
    return Spectrum(
      values: singularValues.prefix(count)
        + [Double](repeating: 0, count: max(0, count - singularValues.count)),
      rows: left.columns, columns: right.columns)
  }
}
