import Checkpoints

extension CheckpointPlan {
  /// Metadata that holds a hash of the tensors' bytes (sd-scripts:library/train_util.py, `precalculate_safetensors_hashes`;
  /// Stability-AI/ModelSpec).
  private static let contentHashes = [
    "sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256",
  ]

  /// Leaves out hashes of the tensors, which the output has no more.
  ///
  /// - Returns: The names of those that were there.
  mutating func dropContentHashes() -> [String] {
    var dropped: [String] = []
    for index in files.indices {
      for key in Self.contentHashes where files[index].metadata.removeValue(forKey: key) != nil {
        if !dropped.contains(key) { dropped.append(key) }
      }
    }
    return dropped
  }
}
