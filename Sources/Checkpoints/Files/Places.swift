import SystemPackage
public import Tensors

/// Names of places on disk by which two paths to one place are known as one.
///
/// Folders are resolved through their links, once each; the last component stays as it is, because an output is never
/// written through a link. What does not exist yet is compared by its text.
public struct Places: Sendable {
  private var folders: [FilePath: FilePath] = [:]
  private let workingFolder = FileSystem.realPath(".") ?? "/"

  /// Knows no folder yet.
  public init() {}

  /// The one name of the place that a path means.
  public mutating func name(of path: String) -> String {
    let place = workingFolder.pushing(FilePath(path)).lexicallyNormalized()
    guard let last = place.lastComponent else { return place.string }
    return resolved(place.removingLastComponent()).appending(last).string
  }

  private mutating func resolved(_ folder: FilePath) -> FilePath {
    if let known = folders[folder] { return known }
    let found: FilePath
    if let real = FileSystem.realPath(folder) {
      found = real
    } else if let last = folder.lastComponent {
      found = resolved(folder.removingLastComponent()).appending(last)
    } else {
      found = folder
    }
    folders[folder] = found
    return found
  }

  /// The folders that a place lies in, the innermost first, without the root.
  public static func folders(above place: String) -> [String] {
    var folders: [String] = []
    var folder = FilePath(place).removingLastComponent()
    while folder.lastComponent != nil {
      folders.append(folder.string)
      folder.removeLastComponent()
    }
    return folders
  }

  /// Makes the folders that an output is to lie in, where they are missing.
  ///
  /// - Throws: `output.…` where one cannot be made.
  public static func makeFolders(above path: String) throws(SurgeryError) {
    let folder = FilePath(path).removingLastComponent()
    guard !folder.isEmpty, (try? FileSystem.status(of: folder)) == nil else { return }
    try makeFolders(above: folder.string)
    do { try FileSystem.makeFolder(folder) } catch  where error == .fileExists {
    } catch { throw SurgeryError.writing(path, "mkdir", error) }
  }

  /// A path as seen from a folder: `path` itself where it is absolute.
  public static func path(_ path: String, from folder: String) -> String {
    folder.isEmpty ? path : FilePath(folder).pushing(FilePath(path)).string
  }

  /// The folder that a path names something in; empty for the working folder.
  public static func folder(of path: String) -> String {
    FilePath(path).removingLastComponent().string
  }

  /// The last component of a path, and that without its extension.
  public static func name(in path: String) -> (whole: String, stem: String) {
    let last = FilePath(path).lastComponent
    return (last?.string ?? path, last?.stem ?? path)
  }

  /// Whether anything is at a path, links followed.
  public static func exists(_ path: String) -> Bool {
    (try? FileSystem.status(of: FilePath(path))) != nil
  }

  /// Whether a folder is at a path, links followed.
  public static func isFolder(_ path: String) -> Bool {
    (try? FileSystem.status(of: FilePath(path)))?.isFolder ?? false
  }

  /// The names in a folder, sorted, without hidden ones.
  ///
  /// - Parameter folder: The path of a folder.
  /// - Returns: The names, without their path.
  /// - Throws: `file.missing`, `file.permission` or `io.read`.
  public static func names(in folder: String) throws(SurgeryError) -> [String] {
    do {
      return try FileSystem.contents(of: FilePath(folder)).filter { !$0.hasPrefix(".") }
    } catch {
      throw SurgeryError.reading(folder, "opendir", error)
    }
  }

  /// Creates a folder where there is none; the folder around it must exist.
  ///
  /// - Parameter folder: The path of the folder.
  /// - Throws: `output.…` where it cannot be created.
  public static func makeFolder(_ folder: String) throws(SurgeryError) {
    do { try FileSystem.makeFolder(FilePath(folder)) } catch {
      guard error == .fileExists, isFolder(folder) else {
        throw SurgeryError.writing(folder, "mkdir", error)
      }
    }
  }
}
