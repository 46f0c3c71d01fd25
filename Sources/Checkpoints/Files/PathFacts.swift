import SystemPackage

/// What a path leads to, links followed.
public struct PathFacts: Sendable, Hashable {
  /// Bytes: of a file, or of all files in a folder and the folders in it.
  public let size: Int
  /// When it was last changed: a file, or the newest file in a folder; nanoseconds since 1970.
  public let modified: Int

  /// Looks at a path; `nil` where there is nothing to see.
  ///
  /// - Parameter path: The path of a file or folder.
  /// - Complexity: One system call for each file in the folder.
  public init?(of path: String) {
    guard let status = try? FileSystem.status(of: FilePath(path)) else { return nil }
    var (size, modified) = (0, status.isFolder ? 0 : status.nanoseconds)
    if status.isFolder {
      // A level deeper than pipelines with their components go; links may lead back up.
      Self.visit(FilePath(path), depth: 4) { file in
        size += Int(clamping: file.size)
        modified = max(modified, file.nanoseconds)
      }
    } else {
      size = Int(clamping: status.size)
    }
    self.size = size
    self.modified = modified
  }

  private static func visit(
    _ folder: FilePath, depth: Int, _ body: (FileSystem.Status) -> Void
  ) {
    for name in (try? FileSystem.contents(of: folder)) ?? [] {
      let path = folder.appending(name)
      guard let status = try? FileSystem.status(of: path) else { continue }
      if !status.isFolder {
        body(status)
      } else if depth > 0 {
        visit(path, depth: depth - 1, body)
      }
    }
  }
}

extension FileSystem.Status {
  /// The modification time in nanoseconds since 1970.
  fileprivate var nanoseconds: Int {
    let (seconds, overflow) = Int(modifiedSeconds).multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? .max : seconds + Int(modifiedNanoseconds)
  }
}
