import Adapters
import Checkpoints

extension [Adapter] {
  /// Says which of several adapters are the same file, so that its change counts more than once.
  var repetitionWarnings: [String] {
    indices.compactMap { index in
      guard let file = self[index].inputs.first,
        let first = self[..<index].first(where: { $0.inputs.first?.isSameFile(as: file) == true })
      else { return nil }
      return "\(self[index].path): the same file as \(first.path); its change counts each time"
    }
  }
}

extension Adapter {
  /// Warnings of this adapter, under its name where it is one of several.
  func named(_ warnings: [String], among count: Int) -> [String] {
    count == 1 ? warnings : warnings.map { "\(path): \($0)" }
  }
}
