import Checkpoints
import Tensors

/// Writes an adapter as a compact file, exactly or with a stated error.
enum CompactAdapterWriter: DialectWriter {
  static let dialect = Dialect.compact

  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    let errors = try CompactErrorPlan(options)
    var encoder = CompactEncoder(dtype: errors.isLossy ? nil : options.dtype)
    var notes: [String] = []
    var modules: [JSONValue] = []
    let limits = try limits(of: adapter, errors)
    for (module, limit) in zip(adapter.modules, limits) {
      let update = try encode(module, limit, errors, into: &encoder)
      modules.append(encoder.module(module, update: update))
    }
    var replacements: [JSONValue] = []
    for replacement in adapter.replacements {
      replacements.append(try encoder.replacement(replacement))
    }
    let exact = adapter.modules.count - encoder.codecs.count { $0 == .quantised }
    if errors.isLossy, exact > 0 {
      notes.append(
        "stored exactly, which suits them better: \(exact) of \(adapter.modules.count, counting: "module")"
      )
    }
    var sections = [
      JSONValue.Member(
        "adapter",
        .object(
          [
            .init("modules", .array(modules)), .init("replacements", .array(replacements)),
          ]
            + (adapter.fanInFanOut.map { [.init("fan_in_fan_out", .bool($0))] } ?? []))),
      .init("provenance", provenance(of: adapter)),
      .init("tool", .string(options.tool)),
    ]
    if let stated = stated(errors) { sections.append(.init("error", stated)) }
    var file = TensorFilePlan(
      relativePath: Places.name(in: path).whole, format: .compact,
      tensors: encoder.infos, metadata: adapter.provenance.metadata)
    file.compact = CompactPlan(sections: sections, codecs: encoder.codecs)
    let isFolder = FileFormat(extensionOf: path) == nil
    if isFolder { file.relativePath = "adapter_model.lra" }
    return AdapterPlan(
      plan: CheckpointPlan(path: path, kind: isFolder ? .folder : .file, files: [file]),
      contents: [encoder.contents], notes: notes)
  }

  private static func limits(
    of adapter: Adapter, _ errors: CompactErrorPlan
  ) throws(SurgeryError) -> [CompactErrorPlan.Limit?] {
    guard errors.isLossy else { return adapter.modules.map { _ in nil } }
    var pairs: [(pair: LowRank, scale: Double)?] = []
    for module in adapter.modules {
      guard let pair = pair(in: module.update), !pair.up.isEmpty, !pair.down.isEmpty,
        pair.rows + pair.columns <= CompactFormat.maximumQuantisedColumns
      else {
        pairs.append(nil)
        continue
      }
      // Without a scale the module counts as it is stored.
      pairs.append((pair, module.scale ?? 1))
    }
    return try errors.limits(of: pairs)
  }

  /// The pair of factors that may be quantised: that of an update, or the one that DoRA normalises.
  private static func pair(in update: any Update) -> LowRank? {
    switch update {
    case let pair as LowRank: pair.core == nil ? pair : nil
    case let decomposed as Decomposed: (decomposed.inner as? LowRank).flatMap(pair)
    default: nil
    }
  }

  private static func encode(
    _ module: ModuleUpdate, _ limit: CompactErrorPlan.Limit?, _ errors: CompactErrorPlan,
    into encoder: inout CompactEncoder
  ) throws(SurgeryError) -> JSONValue {
    let stated = errors.maximumError ?? errors.maximumTotalError ?? 0
    if let decomposed = module.update as? Decomposed, let pair = pair(in: decomposed), let limit,
      CompactErrorPlan.pays(error: stated, dtype: pair.down.dtype)
    {
      let inner = try encode(pair, limit, named: module.name, into: &encoder)
      return try encoder.decomposed(decomposed, inner: inner)
    }
    if let pair = pair(in: module.update), let limit,
      CompactErrorPlan.pays(error: stated, dtype: pair.down.dtype)
    {
      return try encode(pair, limit, named: module.name, into: &encoder)
    }
    if let full = module.update as? FullDifference, let error = errors.maximumError,
      full.difference.count > 0,
      CompactErrorPlan.pays(error: error, dtype: full.difference.dtype)
    {
      return try encode(full, error, named: module.name, into: &encoder)
    }
    return try encoder.encode(module.update)
  }

  /// Both factors as one tensor: row *k* is component *k* of the product, first its outputs, then its inputs.
  private static func encode(
    _ pair: LowRank, _ limit: CompactErrorPlan.Limit, named name: String,
    into encoder: inout CompactEncoder
  ) throws(SurgeryError) -> JSONValue {
    let (rows, columns) = (pair.rows, pair.columns)
    let rank = min(pair.up.columns, rows, columns)
    let place = try encoder.add("\(name).components", rows: rank, columns: rows + columns) {
      () throws(SurgeryError) in
      do throws(SurgeryError) {
        let lossy = try LossyPair(up: pair.up, down: pair.down)
        return try lossy.quantised(error: limit.error(ofNorm: lossy.norm))
      } catch { throw pair.up.tensor.explained(error) }
    }
    return try encoder.lowRank(
      pair,
      up: encoder.view(
        place,
        [
          .columns(0..<rows, rows: rank, columns: rows + columns),
          .transpose(rows: rank, columns: rows),
        ]),
      down: encoder.view(
        place, [.columns(rows..<(rows + columns), rows: rank, columns: rows + columns)]))
  }

  private static func encode(
    _ full: FullDifference, _ error: Double, named name: String,
    into encoder: inout CompactEncoder
  ) throws(SurgeryError) -> JSONValue {
    let difference = full.difference
    // A step for each element of a vector would cost more than the vector.
    let columns =
      difference.columns >= 64 && difference.columns <= CompactFormat.maximumQuantisedColumns
      ? difference.columns : difference.count
    guard columns <= CompactFormat.maximumQuantisedColumns else { return try encoder.encode(full) }
    let rows = difference.count / columns
    let place = try encoder.add("\(name).difference", rows: rows, columns: columns) {
      () throws(SurgeryError) in
      do throws(SurgeryError) {
        let lossy = try LossyDifference(difference, columns: columns)
        return try lossy.quantised(error: error * lossy.norm)
      } catch { throw difference.tensor.explained(error) }
    }
    return .object([
      .init("kind", .string("difference")),
      .init(
        "difference",
        encoder.view(
          place,
          columns == difference.columns
            ? [] : [.reshape(rows: difference.rows, columns: difference.columns)])),
    ])
  }

  private static func stated(_ errors: CompactErrorPlan) -> JSONValue? {
    guard errors.isLossy else { return nil }
    var members: [JSONValue.Member] = []
    if let error = errors.maximumError { members.append(.init("module", .double(error))) }
    if let error = errors.maximumTotalError { members.append(.init("total", .double(error))) }
    return .object(members)
  }

  private static func provenance(of adapter: Adapter) -> JSONValue {
    let provenance = adapter.provenance
    let origin =
      provenance.dialect == .compact ? provenance.compact?.origin : provenance.dialect
    var members: [JSONValue.Member] = []
    if let origin { members.append(.init("dialect", .string(origin.rawValue))) }
    if let config = provenance.config { members.append(.init("config", .string(config.text()))) }
    if let name = provenance.baseName { members.append(.init("base", .string(name))) }
    if let command = provenance.command { members.append(.init("command", .string(command))) }
    if let base = provenance.base { members.append(.init("fingerprint", base.json)) }
    if !provenance.warnings.isEmpty {
      members.append(.init("warnings", .array(provenance.warnings.map { .string($0) })))
    }
    return .object(members)
  }
}

extension Factor {
  fileprivate var isEmpty: Bool { count == 0 }
}
