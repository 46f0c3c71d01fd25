import SystemPackage
public import Tensors

/// What tells one state of a file or folder from the next, without reading it: paths, sizes, modification times and
/// inodes of all files.
public struct Fingerprint: Sendable, Hashable {
  /// Bytes of all files.
  public private(set) var bytes = 0
  /// The latest modification, in seconds since 1970.
  public private(set) var modified: Int64 = 0
  /// A digest of what the files are called and what state they are in.
  public var digest: UInt64 { hash.value }
  private var hash = StableHash()

  /// The deepest folder that is looked into; deeper ones are links in a circle.
  private static let deepest = 16
  /// Files that say how the tensors of a file beside them are meant.
  private static let companions = ["adapter_config.json", "config.json"]

  /// Looks at a path, following links; there is no fingerprint where nothing is.
  ///
  /// Hidden files in a folder do not count.
  ///
  /// - Parameters:
  ///   - path: A file or folder.
  ///   - withCompanions: Whether the configuration beside a file counts as well, as it does for an input.
  /// - Throws: `file.permission` or `io.read`.
  public init?(of path: String, withCompanions: Bool = false) throws(SurgeryError) {
    do throws(Errno) {
      let place = FilePath(path)
      let status = try FileSystem.status(of: place)
      try add(place, status, as: "", depth: 0)
      if withCompanions, !status.isFolder {
        for name in Self.companions {
          let companion = place.removingLastComponent().appending(name)
          guard let status = try? FileSystem.status(of: companion) else { continue }
          try add(companion, status, as: name, depth: 0)
        }
      }
    } catch {
      let failure = SurgeryError.reading(path, "stat", error)
      if failure.kind == .missingInput { return nil }
      throw failure
    }
  }

  private mutating func add(
    _ place: FilePath, _ status: FileSystem.Status, as name: String, depth: Int
  ) throws(Errno) {
    hash.add(name)
    guard status.isFolder else {
      bytes += Int(status.size)
      modified = max(modified, status.modifiedSeconds)
      for number in [
        UInt64(bitPattern: status.size), UInt64(bitPattern: status.modifiedSeconds),
        UInt64(bitPattern: status.modifiedNanoseconds), status.inode,
      ] { hash.add(number) }
      return
    }
    guard depth < Self.deepest else { throw .tooManySymbolicLinkLevels }
    for entry in try FileSystem.contents(of: place) where !entry.hasPrefix(".") {
      let inner = place.appending(entry)
      // A link that leads nowhere is a fact about the folder, too.
      guard let status = try? FileSystem.status(of: inner) else {
        hash.add(entry)
        continue
      }
      try add(inner, status, as: "\(name)/\(entry)", depth: depth + 1)
    }
  }
}
