import Checkpoints
import Tensors

extension Adapter.Provenance {
  /// What to say where the base given calls itself otherwise than the one that the adapter was trained on; `nil` where the names
  /// agree or one is not known.
  ///
  /// Names are compared without their owner and in lower case: a model keeps its own when it is copied. A folder's name is only
  /// good for agreement.
  func warning(ofBase base: Checkpoint) -> String? {
    guard let baseName, let own = base.config?["_name_or_path"]?.text,
      let recorded = Self.key(baseName), let found = Self.key(own),
      recorded != found, recorded != Self.key(base.path)
    else { return nil }
    return "the adapter was trained on \(DisplayText.escaped(baseName)), and the base calls itself "
      + DisplayText.escaped(own)
  }

  private static func key(_ name: String) -> String? {
    name.split(separator: "/").last.map { $0.lowercased() }
  }
}
