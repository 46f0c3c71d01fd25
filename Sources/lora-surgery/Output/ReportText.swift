import LoRASurgery
import Tensors

/// A report of an operation as people read it: a table with one line for each kind of tensor, then the sums.
struct ReportText {
  private let report: OperationReport
  private let verbose: Bool

  init(_ report: OperationReport, verbose: Bool) {
    self.report = report
    self.verbose = verbose
  }

  func lines(width: Int) -> [String] {
    let groups =
      verbose
      ? report.modules.map { TensorGroup(title: $0.tensor.text, $0) }
      : TensorGroup.groups(of: report.modules)
    let hasEnergies = report.totals.deltaNorm != nil
    let hasResiduals = report.totals.residualNorm != nil
    var table = TextTable(
      [("tensor", .left), ("count", .right), ("action", .left), ("rank", .right)]
        + (hasEnergies ? [("delta", .right)] : [])
        + (hasResiduals
          ? [("residual", .right), ("captured", .right)]
          : hasEnergies ? [("relative", .right), ("survives", .right)] : []))
    for group in groups {
      var row = [group.title, "\(group.count)", group.action, group.rank]
      if hasEnergies {
        row.append(group.squaredDelta.map { Quantities.significant($0.squareRoot()) } ?? "")
        row += [
          hasResiduals
            ? group.squaredResidual.map { Quantities.significant($0.squareRoot()) } ?? ""
            : group.largestRelative.map { Quantities.significant($0) } ?? "",
          (hasResiduals ? group.captured : group.smallestShare).map { Quantities.percent($0) }
            ?? "",
        ]
      }
      table.add(row)
    }
    return table.lines(width: width) + [""] + summary
  }

  /// What a dry run cannot know yet is not said: whether tensors differ, and times.
  private var outcome: String {
    switch ((report.gathered ?? report.command) == "extract", isPlan) {
    case (true, false): report.totals.changed == 1 ? "differs" : "differ"
    case (true, true): "to compare"
    case (false, false): "changed"
    case (false, true): "to change"
    }
  }

  private var isPlan: Bool { report.output == nil && report.part?.wasDone != true }

  private var summary: [String] {
    let totals = report.totals
    var lines = [
      "\(Quantities.counted(totals.tensors, "tensor")), \(Quantities.grouped(totals.changed)) of them "
        + outcome
    ]
    if let delta = totals.deltaNorm, let residual = totals.residualNorm,
      let captured = totals.capturedEnergy
    {
      lines.append(
        "captured \(Quantities.percent(captured)) of the delta's energy: norm "
          + "\(Quantities.significant(delta)), residual \(Quantities.significant(residual))")
    }
    for adapter in report.adapters ?? [] {
      lines.append(
        "\(DisplayText.escaped(adapter.path)): applied \(Quantities.grouped(adapter.applied)) of "
          + Quantities.counted(adapter.modules, "module")
          + (report.part == nil ? "" : " in all parts")
          + (adapter.weight == 1 ? "" : ", weight \(Quantities.significant(adapter.weight))")
          + (adapter.excluded == 0 ? "" : "; \(adapter.excluded) not selected"))
    }
    if let undo = totals.undoBytes { lines.append("undo record: \(Quantities.bytes(undo))") }
    if let parameters = totals.parameters {
      lines.append("\(Quantities.counted(parameters, "parameter")) in the adapter")
    }
    lines.append(
      isPlan
        ? "\(Quantities.bytes(totals.bytesRead)) to read"
        : "read \(Quantities.bytes(totals.bytesRead)), wrote \(Quantities.bytes(totals.bytesWritten)) in "
          + "\(Quantities.duration(totals.seconds)), at most \(Quantities.bytes(totals.peakMemory)) of memory"
    )
    if let part = report.part {
      lines.append(
        part.wasDone
          ? "part \(part.part) was done before" : "part \(part.part): gather joins the parts")
    }
    lines.append(
      report.output.map { "-> \(DisplayText.escaped($0))" } ?? "dry run: nothing was written")
    return lines
  }
}

/// Tensors that share a name but for numbers and were treated alike.
private struct TensorGroup {
  let title: String
  let action: String
  private(set) var count = 0
  private(set) var ranks = Set<Int>()
  private(set) var squaredDelta: Double?
  private(set) var squaredResidual: Double?
  /// The largest delta relative to the weights that it changes.
  private(set) var largestRelative: Double?
  /// The least share of a delta that rounding left.
  private(set) var smallestShare: Double?

  init(title: String, _ first: TensorReport) {
    self.title = title
    action = Self.words(first)
    add(first)
  }

  static func groups(of modules: [TensorReport]) -> [TensorGroup] {
    var groups: [TensorGroup] = []
    var positions: [[String]: Int] = [:]
    for module in modules {
      let title = pattern(of: module.tensor)
      if let position = positions[[title, words(module)]] {
        groups[position].add(module)
      } else {
        positions[[title, words(module)]] = groups.count
        groups.append(TensorGroup(title: title, module))
      }
    }
    return groups
  }

  private static func words(_ module: TensorReport) -> String {
    let action = module.action.rawValue.replacing("_", with: " ")
    return module.reason.map { "\(action) (\($0))" } ?? action
  }

  /// The name with every whole number between dots replaced by a star.
  private static func pattern(of name: TensorName) -> String {
    name.text.split(separator: ".", omittingEmptySubsequences: false)
      .map { !$0.isEmpty && $0.allSatisfy(\.isNumber) ? "*" : String($0) }
      .joined(separator: ".")
  }

  private mutating func add(_ module: TensorReport) {
    count += 1
    addExtremes(module)
    if let rank = module.rank { ranks.insert(rank) }
    if let norm = module.deltaNorm { squaredDelta = (squaredDelta ?? 0) + norm * norm }
    if let norm = module.residualNorm { squaredResidual = (squaredResidual ?? 0) + norm * norm }
  }

  private mutating func addExtremes(_ module: TensorReport) {
    if let relative = module.relativeNorm {
      largestRelative = max(largestRelative ?? 0, relative)
    }
    if let share = module.survivingShare {
      smallestShare = min(smallestShare ?? .infinity, share)
    }
  }

  var rank: String {
    guard let low = ranks.min(), let high = ranks.max() else { return "" }
    return low == high ? "\(low)" : "\(low)-\(high)"
  }

  var captured: Double? {
    guard let squaredDelta, let squaredResidual, squaredDelta > 0 else { return nil }
    return 1 - squaredResidual / squaredDelta
  }
}
