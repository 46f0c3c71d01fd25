import Checkpoints
import Tensors

/// Dialects that store two bare matrices and nothing else: loralib, R torch, hand-written code.
struct PairReader {
  /// Names of the two factors at the end of a key, the first that occurs being used.
  static let leaves: [(first: String, second: String)] = [
    ("lora_A", "lora_B"), ("lora_a", "lora_b"), ("A", "B"), ("a", "b"), ("mat_A", "mat_B"),
    ("mat_a", "mat_b"), ("down", "up"), ("linear1", "linear2"), ("W_A", "W_B"), ("w_a", "w_b"),
  ]

  let dialect: Dialect
  let convention: UnsolvedPair.Convention?
  let options: AdapterOptions
  private var pairs:
    [(module: String, target: TargetReference, first: StoredTensor, second: StoredTensor)] =
      []
  private var rest: [StoredTensor] = []

  init(
    _ files: AdapterFiles, dialect: Dialect, convention: UnsolvedPair.Convention?,
    options: AdapterOptions
  ) throws(SurgeryError) {
    self.dialect = dialect
    self.convention = convention
    self.options = options
    var tensors: [String: StoredTensor] = [:]
    for tensor in files.tensors { tensors[tensor.name.text] = tensor }
    var used = Set<String>()
    for pair in options.pairs { try take(pair, tensors, &used, file: files.file.file.path) }
    for tensor in files.tensors where !used.contains(tensor.name.text) {
      let (module, leaf) = ModuleUpdate.split(tensor.name.text)
      let name = leaf.isEmpty ? module : leaf
      let prefix = leaf.isEmpty ? "" : "\(module)."
      guard let leaves = Self.leaves.first(where: { $0.first == name || $0.second == name }) else {
        rest.append(tensor)
        continue
      }
      guard let first = tensors[prefix + leaves.first],
        let second = tensors[prefix + leaves.second]
      else {
        throw SurgeryError.adapter(
          "incomplete", "a module lacks one of its factors", file: files.file.file.path,
          key: tensor.name.text,
          expected: "both \(prefix)\(leaves.first) and \(prefix)\(leaves.second)",
          found: tensor.name.text)
      }
      guard used.insert(first.name.text).inserted else { continue }
      used.insert(second.name.text)
      var target = TargetReference(module: leaf.isEmpty ? "" : module)
      // A wrapper module keeps its layer inside (dialects.md, section 15).
      target.alternatives = ["linear.weight", "base.weight", "layer.weight", "conv.weight"]
      pairs.append((target.module, target, first, second))
    }
  }

  private mutating func take(
    _ pair: AdapterOptions.Pair, _ tensors: [String: StoredTensor], _ used: inout Set<String>,
    file: String
  ) throws(SurgeryError) {
    let modules =
      pair.down.contains("{}")
      ? tensors.keys.compactMap { Self.hole(in: pair.down, of: $0) }.sorted() : [""]
    var found = false
    for module in modules {
      func filled(_ template: String) -> String { Self.filled(template, with: module) }
      guard let first = tensors[filled(pair.down)], let second = tensors[filled(pair.up)] else {
        continue
      }
      found = true
      used.formUnion([first.name.text, second.name.text])
      let (path, parameter) = ModuleUpdate.split(filled(pair.tensor))
      pairs.append((path, TargetReference(module: path, parameter: parameter), first, second))
    }
    if !found {
      throw SurgeryError.adapter(
        "incomplete", "no tensors have the names given with --pair", file: file,
        expected: "\(pair.down) and \(pair.up)",
        found: tensors.keys.sorted().listed(limit: 6))
    }
  }

  /// What stands where a template has `{}`, if the rest of a name is as in the template.
  static func hole(in template: String, of name: String) -> String? {
    guard let open = template.firstIndex(of: "{") else { return nil }
    let prefix = template[..<open]
    let suffix = template[open...].dropFirst(2)
    guard name.utf8.count >= prefix.utf8.count + suffix.utf8.count, name.hasPrefix(prefix),
      name.hasSuffix(suffix)
    else { return nil }
    return String(name.dropFirst(prefix.count).dropLast(suffix.count))
  }

  static func filled(_ template: String, with module: String) -> String {
    guard let open = template.firstIndex(of: "{"), template[open...].hasPrefix("{}") else {
      return template
    }
    return String(template[..<open]) + module + template[open...].dropFirst(2)
  }

  /// The adapter, with tensors that are no factors handed to `other`.
  func adapter(
    _ files: AdapterFiles, reason: String,
    other: (StoredTensor, inout Adapter) throws(SurgeryError) -> Void
  ) throws(SurgeryError) -> Adapter {
    var adapter = Adapter(
      path: files.path, modules: [], provenance: .init(dialect: dialect, reason: reason))
    adapter.provenance.metadata = files.metadata
    adapter.provenance.warnings = files.file.warnings
    let moduleOptions = try ModuleOptions(options)
    for pair in pairs {
      let update = try UnsolvedPair(
        first: Factor(pair.first), second: Factor(pair.second),
        isLoralib: dialect == .loralib || dialect == .litgpt, convention: convention,
        isEmbedding: BaseNames.isEmbeddingModule(pair.module))
      let (scale, alpha) = moduleOptions.scale(
        pair.module, rank: max(update.rank ?? 1, 1), alpha: nil)
      adapter.modules.append(
        ModuleUpdate(
          name: pair.module, target: pair.target, update: update, scale: scale, alpha: alpha))
    }
    for tensor in rest { try other(tensor, &adapter) }
    return adapter
  }
}
