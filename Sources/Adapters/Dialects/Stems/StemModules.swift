import Checkpoints
import Tensors

/// The tensors of a single-file adapter by stem.
struct StemModules: Sendable {
  /// One stem: its tensors by what they are.
  struct Module: Sendable {
    let stem: String
    var parts: [StemKey.Part: StoredTensor] = [:]
  }

  /// Stems in the order of the file.
  private(set) var modules: [Module] = []
  /// Families of keys that occur.
  private(set) var families: Set<StemKey.Family> = []
  private(set) var warnings: [String] = []
  /// Tensors without any known tail.
  private(set) var plain: [StoredTensor] = []
  let file: String

  init(_ files: AdapterFiles) throws(SurgeryError) {
    file = files.file.file.path
    var positions: [String: Int] = [:]
    var bundled = 0
    var rest: [StoredTensor] = []
    for tensor in files.tensors {
      if tensor.name.text.hasPrefix("bundle_emb.") {
        bundled += 1
        continue
      }
      guard let (stem, part, family) = StemKey.split(tensor.name.text) else {
        rest.append(tensor)
        continue
      }
      if family != .shared { families.insert(family) }
      let index = positions[stem] ?? modules.count
      if index == modules.count {
        positions[stem] = index
        modules.append(Module(stem: stem))
      }
      guard modules[index].parts.updateValue(tensor, forKey: part) == nil else {
        throw SurgeryError.adapter(
          "conflict", "a module has a tensor twice under two names", file: file,
          key: tensor.name.text, found: "\(part.rawValue) of \(stem)")
      }
    }
    for tensor in rest {
      // The weight of LyCORIS's (IA)³ is known by its companion.
      let name = tensor.name.text
      if name.hasSuffix(".weight"), let index = positions[String(name.dropLast(7))],
        modules[index].parts[.ia3OnInput] != nil
      {
        modules[index].parts[.ia3Weight] = tensor
      } else {
        plain.append(tensor)
      }
    }
    if bundled > 0 {
      warnings.append("left out: \(bundled, counting: "tensor") of bundled embeddings (bundle_emb)")
    }
  }

  /// Fails where tensors are left that belong to no module.
  func refusePlain() throws(SurgeryError) {
    guard let first = plain.first else { return }
    throw SurgeryError.adapter(
      "unknown-key",
      "names of no kind that this dialect has, of \(plain.count, counting: "tensor")", file: file,
      key: first.name.text, expected: "a tail such as .lora_down.weight or .alpha",
      found: plain.map(\.name.text).listed(limit: 4), hint: "--from names another dialect")
  }
}
