import Checkpoints
import Tensors

/// Pairs of matrices under names of the author's own, oriented by the base's shapes (dialects.md, section 15).
enum HandWrittenReader: DialectReader {
  static func recognises(_ files: AdapterFiles) -> String? {
    let names = Set(files.tensors.map(\.name.text))
    for name in names {
      let (module, leaf) = ModuleUpdate.split(name)
      let (prefix, own) = leaf.isEmpty ? ("", module) : ("\(module).", leaf)
      if let pair = PairReader.leaves.first(where: { $0.first == own }),
        names.contains(prefix + pair.second)
      {
        return "pairs such as \(prefix)\(pair.first) and \(prefix)\(pair.second)"
      }
    }
    return nil
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    try PairReader(files, dialect: .handWritten, convention: nil, options: options)
      .adapter(files, reason: reason, other: LoralibReader.addStored)
  }
}
