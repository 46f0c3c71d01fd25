/// What reading may cost beyond what the size of a file justifies.
public struct ReadLimits: Sendable, Hashable {
  /// Bytes that the compressed members of one archive may decode to (`--max-inflate`); `nil` for the default.
  public var inflatedBytes: UInt64?

  /// No limit, for files that this program wrote itself.
  public static let none = ReadLimits(inflatedBytes: .max)

  /// Creates limits.
  ///
  /// - Parameter inflatedBytes: The most that one archive may decode to; `nil` for the larger of 512 MiB and 64 times the
  ///   file's size. Weights shrink to half at best, so a model never comes near either; a bomb passes both before it has cost
  ///   more than a few seconds and as much disk.
  public init(inflatedBytes: UInt64? = nil) { self.inflatedBytes = inflatedBytes }

  /// The limit for an archive of `size` bytes.
  func inflatedBytes(ofArchive size: UInt64) -> UInt64 {
    if let inflatedBytes { return inflatedBytes }
    let (scaled, overflow) = size.multipliedReportingOverflow(by: 64)
    return overflow ? .max : max(512 << 20, scaled)
  }
}
