import Checkpoints
import Tensors

extension Adapter.Provenance {
  /// What to say where the base given is called otherwise than the one that the adapter was trained on, or has another hash;
  /// nothing where they agree or one is not known.
  ///
  /// - Throws: What reading a piece of the base's file throws.
  func warnings(ofBase base: Checkpoint) throws(SurgeryError) -> [String] {
    [warning(ofName: base), try warning(ofHash: base)].compactMap { $0 }
  }

  /// What to say of the names, compared without their owner and in lower case.
  ///
  /// A model keeps its own when it is copied; a folder's name is only good for agreement.
  private func warning(ofName base: Checkpoint) -> String? {
    guard let baseName, let own = base.config?["_name_or_path"]?.text,
      let recorded = Self.key(baseName), let found = Self.key(own),
      recorded != found, recorded != Self.key(base.path)
    else { return nil }
    return "the adapter was trained on \(DisplayText.escaped(baseName)), and the base calls itself "
      + DisplayText.escaped(own)
  }

  private func warning(ofHash base: Checkpoint) throws(SurgeryError) -> String? {
    guard let baseHash, base.layout == .file, let file = base.files.first?.file.file,
      baseHash.utf8.count == 8, let own = try file.shortHash(), own != baseHash.lowercased()
    else { return nil }
    let trained =
      baseName.map { "\(DisplayText.escaped($0)), whose hash is " } ?? "a file with the hash "
    return
      "the adapter was trained on \(trained)\(DisplayText.escaped(baseHash)); that of the base is "
      + "\(own): it is another model, or another file of the same"
  }

  private static func key(_ name: String) -> String? {
    name.split(separator: "/").last.map { $0.lowercased() }
  }
}

extension InputFile {
  /// The hash that stable-diffusion-webui once told models by and trainers still write: eight digits of the SHA-256 of 64 KiB
  /// from the first MiB on (sd-scripts:library/train_util.py, `model_hash`); `nil` for files that end before.
  fileprivate func shortHash() throws(SurgeryError) -> String? {
    let (start, length): (UInt64, UInt64) = (1 << 20, 1 << 16)
    guard size > start else { return nil }
    let piece = try bytes(at: start, count: Int(min(length, size - start)))
    var hash = SHA256()
    hash.update(unsafe piece.span.bytes)
    return String(hash.hexadecimal.prefix(8))
  }
}
