import Adapters
import Checkpoints
import Tensors

/// Which modules of several adapters belong together, and whether they can be put together.
struct CombinePlan {
  private(set) var steps: [CombineStep] = []
  /// Tensors that one adapter stores in full.
  private(set) var replacements: [Replacement] = []
  /// Entries for what the options leave out.
  private(set) var leftOut: [TensorReport] = []
  private(set) var warnings: [String] = []

  init(
    _ request: CombineRequest, adapters: [Adapter], choice: RankChoice
  ) throws(SurgeryError) {
    let matcher = try request.selection.matcher()
    var selected: [Adapter] = []
    for adapter in adapters {
      let selection = matcher.selection(from: adapter)
      selected.append(selection.selected)
      leftOut += selection.leftOut
    }
    // Names with dots and with underscores meet only in their underscored form.
    let mixed = Set(selected.flatMap { $0.modules.map(\.target.spelling) }).count > 1
    var positions: [String: Int] = [:]
    let defaultRank = selected.flatMap { $0.modules.compactMap(\.update.rank) }.max() ?? 1
    for (adapter, weighted) in zip(selected, request.adapters) {
      var seen = Set<String>()
      for module in adapter.modules {
        let key = Self.key(module.target, underscored: mixed)
        guard seen.insert(key).inserted else {
          throw SurgeryError(
            .unsupported, "combine.twice", "the adapter changes a tensor twice",
            file: adapter.path, tensor: module.name)
        }
        let part = CombineStep.Part(
          module: module, adapter: adapter.path, weight: weighted.weight,
          scale: try module.knownScale(of: adapter))
        if let position = positions[key] {
          steps[position].parts.append(part)
        } else {
          positions[key] = steps.count
          steps.append(
            CombineStep(
              parts: [part], rule: choice.rule(for: module.tensorName, kernel: module.kernel),
              defaultRank: defaultRank))
        }
      }
    }
    for step in steps { try step.check(request.method) }
    try addReplacements(of: selected)
  }

  private static func key(_ target: TargetReference, underscored: Bool) -> String {
    let module =
      underscored ? String(target.module.map { $0 == "." ? "_" : $0 }) : target.module
    return "\(target.component.map { "\($0)" } ?? "")/\(module)/\(target.parameter)"
  }

  /// As PEFT does: a tensor stored in full cannot be weighed, so only one adapter may bring it.
  private mutating func addReplacements(of adapters: [Adapter]) throws(SurgeryError) {
    var owners: [String: String] = [:]
    for adapter in adapters {
      for replacement in adapter.replacements {
        let name = replacement.target.tensorName
        if let other = owners.updateValue(adapter.path, forKey: name) {
          throw SurgeryError(
            .unsupported, "combine.replacements",
            "two adapters store the same tensor in full, which cannot be combined",
            file: adapter.path, tensor: name, found: "\(other) has it too",
            hint: "--exclude leaves tensors out")
        }
        replacements.append(replacement)
      }
      warnings += TensorWarnings.lines(
        adapter.replacements.map {
          ($0.tensorName, "stored in full by \(adapter.path), taken over without weight")
        })
    }
  }
}

/// One tensor's changes in all adapters that have one.
struct CombineStep: Sendable {
  /// The change in one adapter, with the adapter's weight and the module's scale.
  struct Part: Sendable {
    let module: ModuleUpdate
    let adapter: String
    let weight: Double
    let scale: Double

    var weightedScale: Double { weight * scale }
  }

  var parts: [Part]
  let rule: RankRule
  let defaultRank: Int

  var first: ModuleUpdate { parts[0].module }
  var cost: Int { parts.reduce(0) { $0 + $1.module.update.parameterCount } }
  var byteCount: Int {
    parts.reduce(0) { sum, part in
      sum + part.module.update.factors.reduce(0) { $0 + $1.tensor.info.byteCount }
    }
  }
  var dtype: DType { first.update.factors.first?.dtype ?? .f32 }
  /// Whether the changes are stored as differences and not as factors.
  var isDifference: Bool { first.update is FullDifference }

  /// Checks that a method can put the parts together.
  func check(_ method: CombineRequest.Method) throws(SurgeryError) {
    for part in parts {
      let update = part.module.update
      guard isDifference ? update is FullDifference : update.productRank != nil else {
        throw SurgeryError(
          .unsupported, "combine.kind", "updates of this kind cannot be combined",
          file: part.adapter, tensor: part.module.name,
          expected: isDifference ? "a difference as in \(parts[0].adapter)" : "low-rank factors",
          found: update is UnsolvedPair ? "factors of unknown orientation" : update.algorithm,
          hint: update is UnsolvedPair
            ? "convert the adapter to PEFT with --base first" : "convert --as lora first")
      }
      guard update.rows == first.update.rows, update.columns == first.update.columns,
        update.isStacked(like: first.update)
      else {
        throw SurgeryError(
          .data, "combine.shape", "the adapters belong to different models", file: part.adapter,
          tensor: part.module.name,
          expected: "\(first.update.rows) x \(first.update.columns) as in \(parts[0].adapter)",
          found: "\(update.rows) x \(update.columns)")
      }
      if update is StackedLowRank, method.prunes, !method.worksOnFactors {
        throw SurgeryError(
          .unsupported, "combine.kind", "\(method.rawValue) does not take stacks of experts",
          file: part.adapter, tensor: part.module.name,
          hint: "svd and concat add them; the methods without -svd prune their factors")
      }
      if method.worksOnFactors, !isDifference,
        update.productRank != first.update.productRank
      {
        throw SurgeryError(
          .unsupported, "combine.ranks",
          "\(method.rawValue) works on factors, which have different ranks", file: part.adapter,
          tensor: part.module.name,
          expected: "rank \(first.update.productRank ?? 0) as in \(parts[0].adapter)",
          found: "rank \(update.productRank ?? 0)",
          hint: "concat, svd and the -svd methods take any ranks; resize makes them equal")
      }
    }
  }
}

extension Update {
  /// Whether both are stacks of experts that lie the same way, or neither is one.
  fileprivate func isStacked(like other: any Update) -> Bool {
    guard let own = self as? StackedLowRank else { return !(other is StackedLowRank) }
    return (other as? StackedLowRank).map(own.isStacked) ?? false
  }
}
