import SystemPackage
import Tensors

/// Hashes of a file's tensors that its metadata hold, computed when the tensors are written.
///
/// The texts have a fixed length, so that the header keeps its own: zeros stand in it until the data can be read back, which
/// only files with such metadata take the time for.
struct ContentHashes {
  /// The SHA-256 of all bytes after the header (sd-scripts:library/train_util.py, `addnet_hash_safetensors`).
  private static let model = "sshs_model_hash"
  /// Of 64 KiB from the first mebibyte on, the first digits; of a file whose only metadata are those that begin with `ss_`
  /// (sd-scripts:library/train_util.py, `addnet_hash_legacy`, `precalculate_safetensors_hashes`).
  private static let legacy = "sshs_legacy_hash"
  /// The SHA-256 of all bytes after the header, as a number (Stability-AI/ModelSpec, `hash_sha256`).
  private static let specified = "modelspec.hash_sha256"
  private static let legacyWindow = 0x10_0000..<0x11_0000
  private static let legacyDigits = 8

  /// Whether a key is one of a hash of the tensors, whatever the algorithm.
  static func isHash(_ key: String) -> Bool {
    [model, legacy].contains(key) || key.hasPrefix("modelspec.hash_")
  }

  /// Whether a key's value is computed.
  static func isComputed(_ key: String) -> Bool { [model, legacy, specified].contains(key) }

  /// Metadata with zeros in the place of the hashes.
  static func reserved(in metadata: [String: String]) -> [String: String] {
    replaced(
      in: metadata, digest: String(repeating: "0", count: 64),
      legacyDigest: String(repeating: "0", count: legacyDigits))
  }

  private static func replaced(
    in metadata: [String: String], digest: String, legacyDigest: String
  ) -> [String: String] {
    var result = metadata
    for key in metadata.keys where isComputed(key) {
      result[key] = key == model ? digest : key == legacy ? legacyDigest : "0x\(digest)"
    }
    return result
  }

  /// Reads a file's data back and puts their hashes into its header.
  ///
  /// - Parameters:
  ///   - plan: What the file holds.
  ///   - file: The file, completely written.
  ///   - interruption: The token that stops the work.
  /// - Throws: What reading and writing throw.
  /// - Complexity: One reading of the file, where its metadata have a hash.
  static func complete(
    _ plan: TensorFilePlan, _ file: OutputFile, interruption: Interruption
  ) throws(SurgeryError) {
    guard plan.format == .safetensors, plan.metadata.keys.contains(where: isComputed) else {
      return
    }
    let dataOffset = try SafetensorsWriter.Layout(plan, reserved(in: plan.metadata)).dataOffset
    var old = try SafetensorsWriter.Layout(
      plan, plan.metadata.filter { $0.key.hasPrefix("ss_") }, writesEmptyMetadata: true
    ).bytes
    // Only what is left of the header beyond the beginning of the window counts.
    let dataStart = old.count
    old = Array(old.dropFirst(legacyWindow.lowerBound).prefix(legacyWindow.count))
    var (digest, legacyDigest) = (SHA256(), SHA256())
    unsafe legacyDigest.update(old.span.bytes)
    let input = try InputFile(file.temporary.string)
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    var position = 0
    let size = plan.byteCount
    while position < size {
      try interruption.check()
      let count = min(buffer.count, size - position)
      try buffer.withMutableRawSpan(0..<count) { (target) throws(SurgeryError) in
        try input.read(at: dataOffset + UInt64(position), into: &target)
      }
      let bytes = unsafe buffer.span.extracting(0..<count).bytes
      digest.update(bytes)
      let place = dataStart + position..<dataStart + position + count
      if place.overlaps(legacyWindow) {
        let common = place.clamped(to: legacyWindow)
        legacyDigest.update(
          bytes.extracting(
            common.lowerBound - place.lowerBound..<common.upperBound - place.lowerBound))
      }
      position += count
    }
    let metadata = replaced(
      in: plan.metadata, digest: digest.hexadecimal,
      legacyDigest: String(legacyDigest.hexadecimal.prefix(legacyDigits)))
    try file.write(try SafetensorsWriter.Layout(plan, metadata).bytes, at: 0)
  }
}

extension CheckpointPlan {
  /// Leaves out hashes of the tensors that the outputs' formats or this program cannot keep true.
  ///
  /// - Returns: The names of those that were there.
  public mutating func dropUnknownHashes() -> [String] {
    var dropped = Set<String>()
    for index in files.indices {
      let isSafetensors = files[index].format == .safetensors
      for key in files[index].metadata.keys
      where ContentHashes.isHash(key) && !(isSafetensors && ContentHashes.isComputed(key)) {
        files[index].metadata[key] = nil
        dropped.insert(key)
      }
    }
    return dropped.sorted()
  }
}
