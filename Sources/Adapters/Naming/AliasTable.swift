import Checkpoints
import Tensors

/// Where each module name that an adapter may use lies in the base.
///
/// Built forward: every tensor of the base is entered under its own name, under the names of other layouts, and under both
/// with underscores for dots. A fused tensor is entered under the names of its parts; the tensors of a split one, together,
/// under the name of the fused.
struct AliasTable: Sendable {
  /// A tensor, or a part of one.
  struct Entry: Sendable, Hashable {
    var tensor: TensorName
    /// The rows of the tensor's `out x in` matrix; `nil` for all.
    var part: Range<Int>?
    /// The order of this tensor among those that make up a fused module.
    var order = 0
    /// Whether the module is one of several tensors.
    var isPiece = false
  }

  private struct Key: Hashable {
    var component: TargetReference.Component?
    var name: String
  }

  private var dotted: [Key: [Entry]] = [:]
  private var underscored: [Key: [Entry]] = [:]
  /// The components that the base has; one of them is `nil` where a part has no prefix.
  private(set) var components: Set<TargetReference.Component?> = []

  init(_ base: Checkpoint) {
    let blocksWithAttention = Self.blocksWithAttention(base)
    for tensor in base.tensors {
      let (component, _, rest) = ComponentPrefix.split(tensor.name.text)
      components.insert(component)
      let (module, parameter) = ModuleUpdate.split(String(rest))
      add(component, module, parameter, Entry(tensor: tensor.name))
      // A quantised or packed companion has no other names.
      guard tensor.info.shape.rank <= 5 else { continue }
      addAliases(of: tensor, component, module, parameter, blocksWithAttention)
    }
  }

  private static func blocksWithAttention(_ base: Checkpoint) -> Set<String> {
    var blocks = Set<String>()
    for tensor in base.tensors {
      let parts = ComponentPrefix.split(tensor.name.text).rest.split(separator: ".")
      if parts.count > 2, parts[2] == "attentions" { blocks.insert("\(parts[0]).\(parts[1])") }
    }
    return blocks
  }

  private mutating func addAliases(
    of tensor: StoredTensor, _ component: TargetReference.Component?, _ module: String,
    _ parameter: String, _ blocksWithAttention: Set<String>
  ) {
    let (rows, columns) = (tensor.info.shape.rows, tensor.info.shape.columns)
    func part(_ alias: Alias) -> Range<Int>? {
      alias.part == .whole
        ? nil
        : alias.part.rows(of: rows, columns: parameter == "bias" ? 0 : columns)
    }
    if let name = StableDiffusionNames.diffusers(of: module)
      ?? StableDiffusionNames.stability(
        of: module, hasAttention: { blocksWithAttention.contains($0) })
    {
      add(component, name, parameter, Entry(tensor: tensor.name))
    }
    for alias in LanguageModelNames.aliases(of: module) + ExpertNames.aliases(of: module) {
      add(
        component, alias.module, parameter,
        Entry(tensor: tensor.name, order: alias.piece ?? 0, isPiece: alias.piece != nil))
    }
    if parameter == "weight" {
      // Stacked experts are parameters of their module, without a `.weight`.
      for alias in ExpertNames.stackedAliases(of: module) {
        add(
          component, alias.module, "",
          Entry(tensor: tensor.name, order: alias.piece ?? 0, isPiece: alias.piece != nil))
      }
    }
    let isFused = parameter.hasPrefix("in_proj_")
    let plain = isFused ? String(parameter.dropFirst("in_proj_".count)) : parameter
    for alias in StableDiffusionNames.transformers(ofOpenCLIP: module) {
      add(component, alias.module, plain, Entry(tensor: tensor.name, part: part(alias)))
    }
    if isFused { add(component, module, plain, Entry(tensor: tensor.name)) }
    for alias in FluxNames.diffusers(of: module) {
      add(
        component, alias.module, parameter,
        Entry(
          tensor: tensor.name, part: part(alias), order: alias.piece ?? 0,
          isPiece: alias.piece != nil))
    }
    if let (fused, index) = FluxNames.original(of: module) {
      let isPiece = FluxNames.diffusers(of: fused).count > 1
      add(
        component, fused, parameter,
        Entry(tensor: tensor.name, order: index, isPiece: isPiece))
    }
  }

  private mutating func add(
    _ component: TargetReference.Component?, _ module: String, _ parameter: String, _ entry: Entry
  ) {
    let name = parameter.isEmpty ? module : "\(module).\(parameter)"
    let flat =
      String(module.map { $0 == "." ? "_" : $0 }) + (parameter.isEmpty ? "" : "." + parameter)
    append(entry, to: Key(component: component, name: name), in: &dotted)
    append(entry, to: Key(component: component, name: flat), in: &underscored)
  }

  private func append(_ entry: Entry, to key: Key, in table: inout [Key: [Entry]]) {
    if table[key]?.contains(entry) != true { table[key, default: []].append(entry) }
  }

  /// The entries under a name: each candidate is one tensor, or the pieces of a fused module in order.
  func candidates(for reference: TargetReference) -> [[Entry]] {
    let name = reference.tensorName
    let table = reference.spelling == .dotted ? dotted : underscored
    for component in order(for: reference.component) {
      if let found = table[Key(component: component, name: name)] { return Self.grouped(found) }
    }
    return []
  }

  /// The component asked for, then parts without a prefix, then for text encoders and for adapters that say nothing, the
  /// others: which number an encoder has differs from tool to tool.
  private func order(
    for component: TargetReference.Component?
  ) -> [TargetReference.Component?] {
    var order: [TargetReference.Component?] = component == nil ? [nil] : [component, nil]
    let all: [TargetReference.Component] =
      [.denoiser] + (1...4).map { TargetReference.Component.textEncoder($0) }
    switch component {
    case nil: order += all
    case .textEncoder: order += all.dropFirst().filter { $0 != component }
    case .denoiser: break
    }
    return order.filter { components.contains($0) }
  }

  private static func grouped(_ entries: [Entry]) -> [[Entry]] {
    let pieces = entries.filter(\.isPiece).sorted { $0.order < $1.order }
    return entries.filter { !$0.isPiece }.map { [$0] } + (pieces.isEmpty ? [] : [pieces])
  }
}
