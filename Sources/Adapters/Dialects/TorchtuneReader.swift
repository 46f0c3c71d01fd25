import Checkpoints
import Tensors

/// torchtune's native adapters: `layers.N.attn.q_proj.lora_a.weight`, alpha not stored
/// (torchtune:torchtune/modules/peft/lora.py; dialects.md, section 13).
enum TorchtuneReader: DialectReader {
  static func recognises(_ files: AdapterFiles) -> String? {
    files.tensors.first { $0.name.text.hasSuffix(".lora_a.weight") }.map {
      "keys such as \(DisplayText.escaped($0.name.text))"
    }
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    var adapter = Adapter(
      path: files.path, modules: [], provenance: .init(dialect: .torchtune, reason: reason))
    adapter.provenance.metadata = files.metadata
    adapter.provenance.config = files.config
    adapter.provenance.warnings = files.file.warnings
    let moduleOptions = try ModuleOptions(options)
    let alpha = files.config?["lora_alpha"]?.double
    var modules: [(path: String, parts: [String: StoredTensor])] = []
    var positions: [String: Int] = [:]
    for tensor in files.tensors {
      let name = tensor.name.text
      guard
        let tail = [".lora_a.weight", ".lora_b.weight", ".magnitude"].first(where: name.hasSuffix)
      else {
        throw SurgeryError.adapter(
          "unknown-key", "the tensor's name is of no kind that this dialect has", key: name,
          expected: ".lora_a.weight, .lora_b.weight or .magnitude")
      }
      let path = String(name.dropLast(tail.count))
      let index = positions[path] ?? modules.count
      if index == modules.count {
        positions[path] = index
        modules.append((path, [:]))
      }
      modules[index].parts[tail] = tensor
    }
    for (path, parts) in modules {
      guard let down = parts[".lora_a.weight"], let up = parts[".lora_b.weight"] else {
        throw SurgeryError.adapter(
          "incomplete", "a module lacks one of its factors",
          key: parts.values.map(\.name.text).min(),
          expected: "both \(path).lora_a.weight and \(path).lora_b.weight", found: "one")
      }
      let pair = try LowRank(up: Factor(up), down: Factor(down))
      let (scale, used) = moduleOptions.scale(path, rank: max(pair.up.columns, 1), alpha: alpha)
      let last = path.split(separator: ".").last ?? ""
      adapter.modules.append(
        ModuleUpdate(
          name: path, target: TargetReference(module: path),
          update: try RotaryOrdered(
            pair, magnitude: parts[".magnitude"].map { Factor($0) },
            isRotated: last == "q_proj" || last == "k_proj"), scale: scale, alpha: used))
    }
    return adapter
  }
}
