import LoRASurgery
import Tensors

/// Whether a model is what merging gives, as people read it.
struct VerifyText {
  private let report: VerifyReport
  private let verbose: Bool

  /// - Parameters:
  ///   - report: What was found.
  ///   - verbose: Whether every tensor gets its line.
  init(_ report: VerifyReport, verbose: Bool) {
    self.report = report
    self.verbose = verbose
  }

  /// The worst tensors, or all of them, and the verdict.
  func lines(width: Int) -> [String] {
    let shown = verbose ? report.modules : report.modules.filter { !$0.passes }
    var table = TextTable([
      ("tensor", .left), ("verdict", .left), ("exact", .right), ("units", .right),
      ("factor", .right), ("what happened", .left),
    ])
    for module in shown {
      table.add([
        module.tensor.text, module.verdict.rawValue,
        module.exactShare.map { Quantities.percent($0) } ?? "",
        module.maximumUnits.map { "\($0)" } ?? "",
        module.factor.map { Quantities.significant($0) } ?? "",
        [module.accident?.rawValue, module.reason].compactMap { $0 }.joined(separator: ": "),
      ])
    }
    var lines = table.excerpt(rows: verbose ? shown.count : 20, width: width)
    let counts = TensorVerification.Verdict.allCases.map { verdict in
      (verdict, report.modules.count { $0.verdict == verdict })
    }
    lines.append(
      "\(Quantities.counted(report.modules.count, "tensor")): "
        + counts.filter { $0.1 > 0 }.map { "\(Quantities.grouped($0.1)) \($0.0.rawValue)" }
        .joined(separator: ", "))
    guard !report.verified else {
      return lines + ["verified: the model is base and adapter to the rounding of its dtype"]
    }
    lines.append("not verified" + (report.accident.map { ": \($0.rawValue)" } ?? ""))
    if let explanation = report.explanation { lines.append(explanation) }
    return lines
  }
}
