import Adapters
import LoRASurgery
import Tensors

/// An adapter as people read about it: what it is, what it changes, by how much.
struct AdapterText {
  private let adapter: InspectedAdapter
  private let verbose: Bool

  init(_ adapter: InspectedAdapter, verbose: Bool) {
    self.adapter = adapter
    self.verbose = verbose
  }

  func lines(width: Int) -> [String] {
    var lines = [
      "  \(adapter.dialect.rawValue) adapter (\(DisplayText.escaped(adapter.reason)))",
      "  \(adapter.algorithm), \(Quantities.counted(adapter.modules, "module")), "
        + "\(Self.list("rank", adapter.ranks.map(String.init))), "
        + Self.list("alpha", adapter.alphas?.map(Self.short)) + ", "
        + Self.list("scale", adapter.scales?.map(Self.short)) + ", \(adapter.dtype)",
    ]
    if let base = adapter.baseParameters, let share = adapter.share {
      lines.append(
        "  \(Quantities.grouped(adapter.parameters)) of "
          + "\(Quantities.counted(base + adapter.parameters, "parameter")), "
          + "\(Quantities.decimals(share * 100, 4)) %")
    } else {
      lines.append("  \(Quantities.counted(adapter.parameters, "parameter"))")
    }
    if let matched = adapter.matched {
      lines.append("  changes \(Quantities.counted(matched, "tensor")) of the base")
    }
    if let name = adapter.baseName { lines.append("  trained on \(DisplayText.escaped(name))") }
    return lines + compactLines() + table(width: width) + [""]
  }

  /// What a compact file says of itself: where it comes from, how far off it is, what it takes.
  private func compactLines() -> [String] {
    guard let compact = adapter.compact else { return [] }
    var lines: [String] = []
    let makers = [compact.origin.map { "from \($0.rawValue)" }, compact.tool.map { "by \($0)" }]
    let made = makers.compactMap(\.self).joined(separator: " ")
    if !made.isEmpty { lines.append("  made \(DisplayText.escaped(made))") }
    if let command = adapter.command { lines.append("  made with \(DisplayText.escaped(command))") }
    let errors = [
      compact.maximumError.map { "each delta within \(Self.percent($0))" },
      compact.maximumTotalError.map { "all together within \(Self.percent($0))" },
    ].compactMap(\.self)
    lines.append("  " + (errors.isEmpty ? "exact" : errors.joined(separator: ", ")))
    let bytes = adapter.changes.reduce(0) { $0 + ($1.bytes ?? 0) }
    lines.append(
      "  \(Quantities.counted(bytes, "byte")) in changes, \(Self.bits(bytes, adapter.changes)) bits a "
        + "parameter; header \(Quantities.counted(compact.headerBytes, "byte"))")
    return lines
  }

  private static func percent(_ share: Double) -> String {
    "\(Quantities.significant(share * 100)) %"
  }

  /// Bits of the parameters of changes that have bytes.
  private static func bits(_ bytes: Int, _ changes: [InspectedAdapter.Change]) -> String {
    let parameters = changes.reduce(0) { $0 + ($1.bytes == nil ? 0 : $1.parameters) }
    return parameters == 0
      ? "-" : Quantities.decimals(Double(bytes) * 8 / Double(parameters), 2)
  }

  private func table(width: Int) -> [String] {
    let hasNorms = adapter.changes.contains { $0.norm != nil }
    let isCompact = adapter.compact != nil
    var table = TextTable(
      [
        ("changes", .left), ("count", .right), ("kind", .left), ("shape", .left), ("rank", .right),
        ("scale", .right), ("parameters", .right),
      ] + (isCompact ? [("bytes", .right), ("bits each", .right)] : [])
        + (hasNorms ? [("norm", .right)] : []))
    for group in groups() {
      let first = group[0]
      let ranks = Set(group.compactMap(\.rank)).sorted()
      var row = [
        verbose ? first.tensor.text : Self.pattern(of: first.tensor), "\(group.count)", first.kind,
        first.shape.description,
        ranks.count > 1
          ? "\(ranks[0])-\(ranks[ranks.count - 1])" : ranks.first.map(String.init) ?? "",
        first.scale.map(Self.short) ?? "",
        Quantities.grouped(group.reduce(0) { $0 + $1.parameters }),
      ]
      if isCompact {
        let bytes = group.reduce(0) { $0 + ($1.bytes ?? 0) }
        row += [Quantities.grouped(bytes), Self.bits(bytes, group)]
      }
      if hasNorms {
        let norms = group.compactMap(\.norm)
        row.append(norms.isEmpty ? "-" : Self.range(norms))
      }
      table.add(row)
    }
    return table.lines(width: width - 2).map { "  " + $0 }
  }

  /// Changes that are alike but for numbers in their names and for their ranks.
  private func groups() -> [[InspectedAdapter.Change]] {
    if verbose { return adapter.changes.map { [$0] } }
    var groups: [[InspectedAdapter.Change]] = []
    var positions: [[String]: Int] = [:]
    for change in adapter.changes {
      let key = [
        Self.pattern(of: change.tensor), change.kind, change.shape.description,
        change.scale.map(Self.short) ?? "",
      ]
      if let position = positions[key] {
        groups[position].append(change)
      } else {
        positions[key] = groups.count
        groups.append([change])
      }
    }
    return groups
  }

  /// The name with every whole number replaced by a star.
  private static func pattern(of name: TensorName) -> String {
    var out = ""
    var word = ""
    func flush() {
      out += !word.isEmpty && word.allSatisfy(\.isNumber) ? "*" : word
      word = ""
    }
    for character in name.text {
      if character == "." || character == "_" {
        flush()
        out.append(character)
      } else {
        word.append(character)
      }
    }
    flush()
    return out
  }

  private static func list(_ what: String, _ values: [String]?) -> String {
    guard let values, !values.isEmpty else { return "\(what) unknown" }
    let shown = values.prefix(6).joined(separator: " ")
    return values.count > 6 ? "\(what)s \(shown) \(Console.ellipsis)" : "\(what) \(shown)"
  }

  private static func range(_ norms: [Double]) -> String {
    let (low, high) = (norms.min() ?? 0, norms.max() ?? 0)
    return low == high
      ? Quantities.significant(low)
      : "\(Quantities.significant(low))-\(Quantities.significant(high))"
  }

  private static func short(_ value: Double) -> String {
    value == value.rounded() && value.magnitude < 1e6
      ? "\(Int(value))" : Quantities.significant(value)
  }
}
