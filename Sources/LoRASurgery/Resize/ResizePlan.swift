import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

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
      } else if module.update.productRank == nil {
        report.reason = "not low-rank (\(module.update.algorithm))"
      } else {
        steps.append(
          ResizeStep(
            position: position, module: module,
            scale: try module.knownScale(of: adapter),
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
      defaultRank: module.update.productRank ?? 1)
  }

  /// The module with the factors of its new rank; a rank of 0 leaves them as they are, to be dropped.
  func resized(
    to given: Int?, _ spool: FactorSpool
  ) throws(SurgeryError) -> (module: ModuleUpdate, report: TensorReport) {
    let factors = try factors()
    let decompositions = try factors.decomposed()
    let spectrum = decompositions.spectrum
    let own = module.update.productRank ?? 0
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
      squaredNorm: energy, squaredResidual: try factors.squaredResidual(of: pair.rounded))
    return (try module.replacing(pair, scale: 1), report)
  }
}
