import ArgumentParser
import LoRASurgery
import Tensors

struct CompareCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Compare two checkpoints tensor by tensor, or two adapters by their deltas.",
    discussion: """
      Adapters may be of different dialects and ranks; their deltas are compared in factored form. \
      The exit status is 1 where a tensor differs by more than the tolerance.

        lora-surgery compare merged/ tuned/
        lora-surgery compare a.safetensors b.safetensors --tolerance 0.01
      """)

  @Argument(help: "The first checkpoint.", completion: .checkpoints)
  var first: String

  @Argument(
    help: "The second checkpoint, the measure of relative errors.", completion: .checkpoints)
  var second: String

  @Option(
    help: ArgumentHelp(
      "The relative Frobenius error up to which a tensor counts as equal.", valueName: "number"))
  var tolerance = 0.0

  @OptionGroup(title: "What adapters do not say themselves")
  var adapters: AdapterReadingOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func validate() throws {
    guard tolerance >= 0, tolerance.isFinite else {
      throw ValidationError("--tolerance takes a number of at least 0")
    }
  }

  func request() throws -> CompareRequest {
    var request = CompareRequest(
      first, second, tolerance: tolerance, selection: selection.selection)
    request.adapterOptions = try adapters.options()
    return request
  }

  func run() throws {
    let request = try self.request()
    let report = try common.execute { (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report, warnings: report.warnings) { lines(of: report) }
    if !report.equal { throw ExitCode(1) }
  }

  private func lines(of report: CompareReport) -> [String] {
    let shown =
      common.verbose
      ? report.modules
      : report.modules.filter { $0.verdict != .identical }
        .sorted { ($0.relativeError ?? .infinity) > ($1.relativeError ?? .infinity) }
    var table = TextTable([
      ("tensor", .left), ("verdict", .left), ("largest", .right), ("units", .right),
      ("relative", .right),
      ("cosine", .right),
    ])
    let limit = common.verbose ? shown.count : 20
    for module in shown.prefix(limit) {
      table.add([
        module.tensor.text,
        module.verdict.rawValue + (module.dtypes.map { " (\($0[0]), \($0[1]))" } ?? ""),
        module.maximumDifference.map { Quantities.significant($0) } ?? "",
        module.maximumUnits.map { Quantities.significant($0) } ?? "",
        module.relativeError.map { Quantities.significant($0) } ?? "",
        module.cosine.map { Quantities.decimals($0, 6) } ?? "",
      ])
    }
    var lines = shown.isEmpty ? [] : table.lines(width: Console.width) + [""]
    if shown.count > limit {
      lines.append("\(Console.ellipsis) and \(shown.count - limit) more, which --verbose shows")
    }
    let identical = report.modules.count { $0.verdict == .identical }
    lines.append(
      "\(Quantities.counted(report.modules.count, "tensor")), \(Quantities.grouped(identical)) identical; "
        + "relative error of all together \(Quantities.significant(report.relativeError))")
    lines.append(
      report.equal
        ? "equal within the tolerance of \(Quantities.significant(tolerance))"
        : "different: beyond the tolerance of \(Quantities.significant(tolerance))")
    return lines
  }
}
