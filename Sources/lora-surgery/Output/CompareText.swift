import LoRASurgery
import Tensors

/// The difference of two checkpoints or adapters, as people read it.
struct CompareText {
  private let report: CompareReport
  private let verbose: Bool
  private let tolerance: Double

  /// - Parameters:
  ///   - report: What was found.
  ///   - verbose: Whether every tensor gets its line.
  ///   - tolerance: The relative error up to which tensors count as equal.
  init(_ report: CompareReport, verbose: Bool, tolerance: Double) {
    self.report = report
    self.verbose = verbose
    self.tolerance = tolerance
  }

  /// The worst tensors, or all of them, and the verdict.
  func lines(width: Int) -> [String] {
    let shown =
      verbose
      ? report.modules
      : report.modules.filter { $0.verdict != .identical }
        .sorted { ($0.relativeError ?? .infinity) > ($1.relativeError ?? .infinity) }
    var table = TextTable([
      ("tensor", .left), ("verdict", .left), ("largest", .right), ("units", .right),
      ("relative", .right),
      ("cosine", .right),
    ])
    for module in shown {
      table.add([
        module.tensor.text,
        module.verdict.rawValue + (module.dtypes.map { " (\($0[0]), \($0[1]))" } ?? ""),
        module.maximumDifference.map { Quantities.significant($0) } ?? "",
        module.maximumUnits.map { Quantities.significant($0) } ?? "",
        module.relativeError.map { Quantities.significant($0) } ?? "",
        module.cosine.map { Quantities.decimals($0, 6) } ?? "",
      ])
    }
    var lines = table.excerpt(rows: verbose ? shown.count : 20, width: width)
    let identical = report.modules.count { $0.verdict == .identical }
    let wasCompared = report.modules.contains {
      $0.verdict == .identical || $0.relativeError != nil
    }
    lines.append(
      "\(Quantities.counted(report.modules.count, "tensor")), \(Quantities.grouped(identical)) identical; "
        + (wasCompared
          ? "relative error of all together \(Quantities.significant(report.relativeError))"
          : "none could be compared"))
    lines.append(
      report.equal
        ? "equal within the tolerance of \(Quantities.significant(tolerance))"
        : "different: beyond the tolerance of \(Quantities.significant(tolerance))")
    return lines
  }
}
