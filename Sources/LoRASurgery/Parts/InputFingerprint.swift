public import Checkpoints
public import Tensors

/// What tells an input file from another wherever both lie: its size, and a checksum of its head and of samples of the rest.
///
/// Two fine-tunes of one model have the same headers and sizes, so data is looked at too: files of up to a megabyte
/// completely, larger ones at 256 places. Training changes nearly everything, so a few places tell.
public struct InputFingerprint: Sendable, Codable, Hashable {
  /// The file's own name, for messages; files of other names may match.
  public var name: String
  /// Bytes in the file.
  public var size: Int
  /// The CRC-32 of the bytes that are looked at.
  public var checksum: UInt32

  private static let headSize = 1 << 16
  private static let sampleSize = 1 << 12
  private static let sampleCount = 256

  /// Looks at a file.
  ///
  /// - Parameter file: The opened file.
  /// - Throws: What reading throws.
  /// - Complexity: At most 1.1 MB are read.
  public init(of file: InputFile) throws(SurgeryError) {
    name = file.path.split(separator: "/").last.map(String.init) ?? file.path
    size = Int(clamping: file.size)
    var bytes = try file.bytes(at: 0, count: min(size, Self.headSize))
    let rest = size - bytes.count
    if rest <= Self.sampleSize * Self.sampleCount {
      bytes += try file.bytes(at: UInt64(bytes.count), count: rest)
    } else {
      for sample in 0..<Self.sampleCount {
        let offset = Self.headSize + (rest - Self.sampleSize) / (Self.sampleCount - 1) * sample
        bytes += try file.bytes(at: UInt64(offset), count: Self.sampleSize)
      }
    }
    checksum = bytes.crc32
  }

  /// Whether both files hold the same, as far as was looked.
  public func matches(_ other: Self) -> Bool { size == other.size && checksum == other.checksum }

  /// Looks at several files on all workers.
  ///
  /// - Parameters:
  ///   - files: The opened files.
  ///   - execution: Threads.
  /// - Returns: One fingerprint for each file.
  /// - Throws: What reading throws.
  public static func all(
    of files: [InputFile], _ execution: Execution
  ) throws(SurgeryError) -> [InputFingerprint] {
    try Workers(count: execution.jobs).map(
      files.count, cost: { _ in 1 }, interruption: execution.interruption
    ) { (index) throws(SurgeryError) in try InputFingerprint(of: files[index]) }
  }
}
