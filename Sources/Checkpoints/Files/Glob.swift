import SystemPackage

/// A pattern of paths: `*`, `?` and `[…]` within a component, `**` for any number of folders.
///
/// Wildcards do not match a leading dot, so temporary files stay out.
public struct Glob: Sendable {
  private let components: [String]
  private let root: String

  /// Whether a text has wildcards at all.
  public static func isPattern(_ text: String) -> Bool {
    text.utf8.contains {
      $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "[")
    }
  }

  /// Reads a pattern; a leading slash makes it absolute.
  public init(_ pattern: String) {
    root = pattern.utf8.first == UInt8(ascii: "/") ? "/" : ""
    components = pattern.split(separator: "/").map(String.init)
  }

  /// The paths on disk that match, seen from `folder`, sorted by bytes.
  ///
  /// - Complexity: One listing for each folder that the wildcards reach.
  public func paths(in folder: String) -> [String] {
    var found: Set<String> = []
    find(components[...], at: root, from: root.isEmpty ? folder : "", into: &found)
    return found.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// Whether a path that may not exist matches.
  public func matches(_ path: String) -> Bool {
    guard root.isEmpty == (path.utf8.first != UInt8(ascii: "/")) else { return false }
    return Self.matches(path.split(separator: "/").map(String.init)[...], components[...])
  }

  private static func matches(
    _ path: ArraySlice<String>, _ pattern: ArraySlice<String>
  ) -> Bool {
    guard let first = pattern.first else { return path.isEmpty }
    if first == "**" {
      return path.indices.contains { matches(path[$0...], pattern.dropFirst()) }
        || pattern.count == 1
    }
    guard let name = path.first, FileSystem.name(name, matches: first) else { return false }
    return matches(path.dropFirst(), pattern.dropFirst())
  }

  private func find(
    _ pattern: ArraySlice<String>, at path: String, from folder: String,
    into found: inout Set<String>
  ) {
    guard let first = pattern.first else {
      found.insert(path)
      return
    }
    let rest = pattern.dropFirst()
    let here = FilePath(folder).pushing(FilePath(path))
    func inner(_ name: String) -> String {
      path.isEmpty ? name : path == "/" ? "/\(name)" : "\(path)/\(name)"
    }
    if first == "**" { find(rest, at: path, from: folder, into: &found) }
    guard Self.isPattern(first) else {
      if (try? FileSystem.status(of: here.appending(first))) != nil {
        find(rest, at: inner(first), from: folder, into: &found)
      }
      return
    }
    for name in (try? FileSystem.contents(of: here.isEmpty ? "." : here)) ?? [] {
      if first == "**" {
        // Not through links, which may lead in a circle.
        guard !name.hasPrefix("."),
          (try? FileSystem.status(of: here.appending(name), followingLinks: false))?.isFolder
            ?? false
        else { continue }
        find(pattern, at: inner(name), from: folder, into: &found)
      } else if FileSystem.name(name, matches: first) {
        find(rest, at: inner(name), from: folder, into: &found)
      }
    }
  }
}
