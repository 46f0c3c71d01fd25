/// Names for stated errors, for people who do not want to choose a number.
public enum CompactQuality: String, Sendable, Hashable, Codable, CaseIterable {
  /// Every bit is kept.
  case lossless
  /// 1 %: below what training with another seed changes by two orders of magnitude.
  case high
  /// 5 %.
  case medium
  /// 15 %: about what halving the rank of a typical adapter costs.
  case small

  /// The most that a module's delta is off, relative to its Frobenius norm; `nil` where nothing is.
  public var maximumError: Double? {
    switch self {
    case .lossless: nil
    case .high: 0.01
    case .medium: 0.05
    case .small: 0.15
    }
  }
}

/// What a compact file says of itself.
public struct CompactFacts: Sendable, Hashable, Codable {
  /// The dialect that it was made from.
  public var origin: Dialect?
  /// The program that wrote it.
  public var tool: String?
  /// The most that any module's delta is off, relative to its Frobenius norm; `nil` in lossless files.
  public var maximumError: Double?
  /// The most that all deltas together are off.
  public var maximumTotalError: Double?
  /// Bytes of the stored header.
  public var headerBytes: Int
  /// Bytes in the file of each module's tensors, by the module's name; a shared tensor counts for the first.
  public var bytesByModule: [String: Int]
}
