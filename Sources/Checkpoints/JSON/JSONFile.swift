public import Tensors

extension JSONValue {
  /// No configuration or index of a model comes near this size.
  static let maximumFileSize: UInt64 = 100_000_000

  /// Reads and parses a JSON file.
  ///
  /// - Parameter path: A regular file of at most 100 MB.
  /// - Throws: `json.…` or `file.…` with the file.
  public init(readingFile path: String) throws(SurgeryError) {
    do throws(SurgeryError) {
      try self.init(parsing: try Self.bytes(ofFile: path))
    } catch {
      throw error.inFile(path)
    }
  }

  /// Reads a JSON file, bounded, without parsing it.
  static func bytes(ofFile path: String) throws(SurgeryError) -> [UInt8] {
    let file = try InputFile(path)
    guard file.size <= Self.maximumFileSize else {
      throw SurgeryError(
        .data, "json.too-large", "the JSON file is too large", file: path,
        expected: "at most \(Self.maximumFileSize) bytes", found: "\(file.size, counting: "byte")")
    }
    return try file.bytes(at: 0, count: Int(file.size))
  }
}
