import LoRASurgery
import Tensors

/// Spectra as people read them: a line for each projection, a plot of energy by rank, and what the rules choose.
struct SpectrumText {
  private let report: SpectrumReport
  private let verbose: Bool
  private let drawsBlocks: Bool

  /// The rules that have a column of their own.
  private static let columns = [
    ("--energy 0.9", "90 %"), ("--energy 0.99", "99 %"),
    ("--noise-floor", "noise"),
  ]

  /// - Parameters:
  ///   - report: The spectra.
  ///   - verbose: Whether every tensor gets its line.
  ///   - drawsBlocks: Whether bars are drawn with block characters instead of plain ones.
  init(_ report: SpectrumReport, verbose: Bool, drawsBlocks: Bool) {
    self.report = report
    self.verbose = verbose
    self.drawsBlocks = drawsBlocks
  }

  func lines(width: Int) -> [String] {
    spectra.lines(width: width) + ["", "one rank for all matrices"]
      + ranks(width: width).lines(width: width)
      + ["", "what the rules of extract choose"] + policies.lines(width: width) + [""] + summary
  }

  private var spectra: TextTable {
    var table = TextTable(
      [("tensor", .left), ("n", .right), ("delta", .right), ("stable", .right), ("eff.", .right)]
        + Self.columns.map { ($0.1, .right) } + [("a rank", .right)])
    for group in groups {
      table.add(
        [
          group.title, "\(group.members.count)", Quantities.significant(group.norm),
          group.median { $0.stableRank }, group.median { $0.effectiveRank },
        ] + Self.columns.map { group.ranks(for: $0.0) }
          + [Quantities.bytes(group.members.reduce(0) { $0 + ($1.bytesPerRank ?? 0) })])
    }
    return table
  }

  private var groups: [SpectrumGroup] {
    let matrices = report.modules.filter { $0.action == .decomposed }
    if verbose { return matrices.map { SpectrumGroup(title: $0.tensor.text, members: [$0]) } }
    var groups: [SpectrumGroup] = []
    var positions: [String: Int] = [:]
    for matrix in matrices {
      if let position = positions[matrix.projection] {
        groups[position].members.append(matrix)
      } else {
        positions[matrix.projection] = groups.count
        groups.append(SpectrumGroup(title: matrix.projection, members: [matrix]))
      }
    }
    return groups
  }

  /// A bar for each rank: the plot and the price list in one.
  private func ranks(width: Int) -> TextTable {
    let cells = report.totals.ranks.map {
      ["\($0.rank)", Quantities.bytes($0.bytes), Quantities.percent($0.capturedEnergy)]
    }
    let titles = ["rank", "bytes", "captured"]
    let taken = titles.indices.reduce(0) { sum, column in
      sum + 2 + ([titles] + cells).reduce(0) { max($0, $1[column].count) }
    }
    let bar = BarText(blocks: drawsBlocks)
    let room = min(60, max(10, width - taken))
    var table = TextTable(titles.map { ($0, .right) } + [("", .left)])
    for (row, cost) in zip(cells, report.totals.ranks) {
      table.add(row + [bar.bar(cost.capturedEnergy, width: room)])
    }
    return table
  }

  private var policies: TextTable {
    var table = TextTable([
      ("rule", .left), ("ranks", .right), ("bytes", .right), ("captured", .right),
      ("undecided", .right),
    ])
    for policy in report.totals.policies {
      let isKnown = policy.leastRank != nil
      table.add([
        policy.option, RangeText.text([policy.leastRank, policy.largestRank].compactMap { $0 }),
        isKnown ? Quantities.bytes(policy.bytes) : "-",
        policy.capturedEnergy.map { Quantities.percent($0) } ?? "-",
        policy.undecided == 0 ? "" : "\(policy.undecided)",
      ])
    }
    return table
  }

  private var summary: [String] {
    let totals = report.totals
    var lines = [
      "\(Quantities.counted(totals.tensors, "tensor")), \(Quantities.grouped(totals.changed)) of them "
        + (totals.changed == 1 ? "differs, " : "differ, ")
        + "\(Quantities.grouped(totals.matrices)) as matrices; norm of the difference "
        + Quantities.significant(totals.deltaNorm)
    ]
    if totals.fullBytes > 0 {
      lines.append(
        "\(Quantities.bytes(totals.fullBytes)) of other changed tensors, which extract keeps in full"
      )
    }
    if totals.policies.contains(where: { $0.undecided > 0 }) {
      lines.append("undecided: more singular values would tell, see --values")
    }
    lines.append(
      "read \(Quantities.bytes(totals.bytesRead)) in \(Quantities.duration(totals.seconds)), at most "
        + "\(Quantities.bytes(totals.peakMemory)) of memory")
    if let html = report.html { lines.append("-> \(DisplayText.escaped(html))") }
    return lines
  }
}

/// Matrices on one line of the table.
private struct SpectrumGroup {
  let title: String
  var members: [TensorSpectrum]

  var norm: Double {
    members.reduce(0) { $0 + ($1.deltaNorm ?? 0) * ($1.deltaNorm ?? 0) }.squareRoot()
  }

  /// The middle of the members' numbers; for an even count the upper one.
  func median(_ number: (TensorSpectrum) -> Double?) -> String {
    let sorted = members.compactMap(number).sorted()
    return sorted.isEmpty ? "-" : Quantities.significant(sorted[sorted.count / 2], 3)
  }

  /// The ranks that a rule chooses, with a plus where the values that were found do not decide for all members.
  func ranks(for option: String) -> String {
    let outcomes = members.flatMap { $0.policies ?? [] }.filter { $0.option == option }
    let known = outcomes.compactMap(\.rank)
    if known.count == outcomes.count { return RangeText.text(known) }
    return known.min().map { "\($0)+" } ?? "?"
  }
}

/// Numbers between bounds.
private enum RangeText {
  static func text(_ numbers: [Int]) -> String {
    guard let low = numbers.min(), let high = numbers.max() else { return "-" }
    return low == high ? "\(low)" : "\(low)-\(high)"
  }
}
