import Synchronization
import SystemPackage
public import Tensors

/// One output, file or folder, that appears whole or not at all.
///
/// Everything is written under a temporary name in the destination's folder, flushed, and renamed at the end; the folder is
/// flushed after that. Until `commit` an existing output is untouched. A transaction that is dropped removes its temporaries.
public final class OutputTransaction: Sendable {
  /// What the output is.
  public enum Kind: Sendable {
    /// One file.
    case file
    /// A folder of files.
    case folder
  }

  /// What is at an output's place.
  private enum Found {
    case nothing
    case emptyFolder
    case output
  }

  /// The path as the user named it.
  public let path: String
  private let kind: Kind
  private let target: FilePath
  private let parent: FilePath
  private let temporary: FilePath
  /// Whether an output may be replaced that is there, or comes.
  private let isForced: Bool
  private let found: Found
  private let inputs: [InputFile]
  private let mode: UInt32
  private let interruption: Interruption
  /// What was made in the temporary folder: where no more files may be open, it cannot be looked into.
  private let made = Mutex<[FilePath]>([])

  /// Checks the destination and claims a temporary name beside it.
  ///
  /// - Parameters:
  ///   - path: Where the output goes; its folder must exist.
  ///   - kind: File or folder.
  ///   - replacing: Whether an existing output is replaced (`--force`).
  ///   - inputs: The files that are read; an output on top of one is refused.
  ///   - interruption: Knows the temporaries from now on.
  /// - Throws: `output.…` where the destination refuses.
  public init(
    path: String, kind: Kind, replacing: Bool, inputs: [InputFile], interruption: Interruption
  ) throws(SurgeryError) {
    self.path = path
    self.kind = kind
    self.inputs = inputs
    self.interruption = interruption
    isForced = replacing
    target = FilePath(path)
    guard let name = target.lastComponent?.string else {
      throw SurgeryError(
        .outputRefused, "output.path", "no file name in the output's path",
        file: path.isEmpty ? nil : path, found: path.isEmpty ? "an empty path" : nil,
        hint: "-o takes the path of a file or folder")
    }
    let folder = target.removingLastComponent()
    parent = folder.isEmpty ? "." : folder
    do {
      guard try FileSystem.status(of: parent).isFolder else { throw Errno.notDirectory }
    } catch {
      throw SurgeryError.writing(path, "stat", (error as? Errno) ?? .ioError)
    }
    let existing: FileSystem.Status?
    do { existing = try FileSystem.status(of: target, followingLinks: false) } catch {
      guard error == .noSuchFileOrDirectory else {
        throw SurgeryError.writing(path, "stat", error)
      }
      existing = nil
    }
    if let existing {
      found = try Self.check(existing, at: path, kind: kind, replacing: replacing, inputs: inputs)
      mode = kind == .file ? existing.mode & 0o7777 : FileSystem.defaultFileMode
    } else {
      found = .nothing
      mode = FileSystem.defaultFileMode
    }
    do {
      temporary = try Self.claimTemporary(for: name, in: parent, kind: kind)
    } catch {
      throw SurgeryError.writing(path, "create", error)
    }
    interruption.register(temporary)
  }

  /// Makes an empty file or folder under a name that nobody else has.
  private static func claimTemporary(
    for name: String, in parent: FilePath, kind: Kind
  ) throws(Errno) -> FilePath {
    // Cut, so that the name of the temporary is no longer than file systems allow.
    let stem = String(String.UnicodeScalarView(name.unicodeScalars.prefix(40)))
    while true {
      let suffix = String(UInt32.random(in: .min ... .max), radix: 36)
      let temporary = parent.appending(".\(stem).\(suffix).part")
      do throws(Errno) {
        switch kind {
        case .file: try FileSystem.makeFile(temporary)
        case .folder: try FileSystem.makeFolder(temporary)
        }
        return temporary
      } catch  where error == .fileExists {
        continue
      }
    }
  }

  deinit {
    for path in made.withLock({ $0.reversed() }) { FileSystem.removeTree(path) }
    FileSystem.removeTree(temporary)
    interruption.unregister(temporary)
  }

  /// Fails where the destination would refuse an output, before any work is done for it.
  ///
  /// - Parameters:
  ///   - path: Where the output goes; its folder must exist.
  ///   - kind: File or folder.
  ///   - replacing: Whether an existing output is replaced (`--force`).
  ///   - inputs: The files that are read; an output on top of one is refused.
  /// - Throws: `output.…` where the destination refuses.
  public static func checkDestination(
    _ path: String, kind: Kind, replacing: Bool, inputs: [InputFile]
  ) throws(SurgeryError) {
    _ = try OutputTransaction(
      path: path, kind: kind, replacing: replacing, inputs: inputs, interruption: Interruption())
  }

  private static func check(
    _ existing: FileSystem.Status, at path: String, kind: Kind, replacing: Bool,
    inputs: [InputFile]
  ) throws(SurgeryError) -> Found {
    if existing.isLink {
      throw SurgeryError(
        .outputRefused, "output.link",
        "the output is a symbolic link, which would be replaced by a file",
        file: path, hint: "name the link's target, or another output")
    }
    let isOwn: Bool
    switch kind {
    case .file: isOwn = existing.isRegularFile
    case .folder: isOwn = existing.isFolder
    }
    guard isOwn else {
      throw SurgeryError(
        .outputRefused, "output.kind",
        "the output exists and is not a \(kind == .file ? "regular file" : "folder")", file: path,
        hint: "choose another output")
    }
    if let input = inputs.first(where: { input in
      switch kind {
      case .file: input.status.isSameFile(as: existing)
      case .folder: FileSystem.isInside(FilePath(input.path), folder: existing)
      }
    }) {
      throw SurgeryError(
        .data, "output.is-input",
        kind == .file ? "the output is the same file as an input" : "the output holds an input",
        file: path, found: input.path, hint: "choose another output")
    }
    if kind == .folder, (try? FileSystem.contents(of: FilePath(path)))?.isEmpty == true {
      return .emptyFolder
    }
    if !replacing {
      throw SurgeryError(
        .outputRefused, "output.exists", "the output exists", file: path,
        hint: "--force replaces it")
    }
    return .output
  }

  /// Creates a file of the output under its temporary name.
  ///
  /// - Parameters:
  ///   - relativePath: The path inside an output folder; ignored for an output file.
  ///   - size: Bytes that the file will have, reserved at once; `nil` where that is not known.
  /// - Returns: The file, to be written.
  /// - Throws: `output.…` or `io.write`.
  public func makeFile(_ relativePath: String, size: UInt64?) throws(SurgeryError) -> OutputFile {
    switch kind {
    case .file: return try OutputFile(claimed: temporary, path: path, size: size)
    case .folder:
      try makeFolders(for: relativePath)
      let place = temporary.appending(relativePath)
      made.withLock { $0.append(place) }
      return try OutputFile(
        temporary: place, path: target.appending(relativePath).string, size: size)
    }
  }

  private func makeFolders(for relativePath: String) throws(SurgeryError) {
    var folder = temporary
    for component in relativePath.split(separator: "/").dropLast() {
      folder.append(String(component))
      do {
        try FileSystem.makeFolder(folder)
        made.withLock { $0.append(folder) }
      } catch  where error == .fileExists {
      } catch { throw SurgeryError.writing(path, "mkdir", error) }
    }
  }

  /// Gives an existing file a second name in the output's folder, under the temporary name.
  ///
  /// - Parameters:
  ///   - relativePath: The path inside the output folder.
  ///   - input: The file, which nobody may change later.
  /// - Returns: The file, or `nil` where it cannot have another name there.
  func linkFile(_ relativePath: String, to input: InputFile) -> OutputFile? {
    guard kind == .folder, (try? makeFolders(for: relativePath)) != nil else { return nil }
    let place = temporary.appending(relativePath)
    made.withLock { $0.append(place) }
    return OutputFile(
      linking: input, temporary: place,
      path: target.appending(relativePath).string, mode: mode)
  }

  /// Flushes every file and gives the output its name.
  ///
  /// - Parameter files: Every file that `makeFile` made.
  /// - Throws: What `prepare` and `publish` throw.
  public func commit(_ files: [OutputFile]) throws(SurgeryError) {
    try prepare(files)
    try publish()
  }

  /// Flushes every file and folder, and checks the inputs for changes: what is left to do can hardly fail.
  ///
  /// - Parameter files: Every file that `makeFile` made.
  /// - Throws: `io.…`, `output.…`, or an error of kind `interrupted`.
  public func prepare(_ files: [OutputFile]) throws(SurgeryError) {
    for file in files { try file.flush(mode: mode) }
    if kind == .folder {
      for folder in folders(of: files) {
        do { try FileSystem.flushFolder(folder) } catch {
          throw SurgeryError.writing(path, "flush", error)
        }
      }
    }
    for input in inputs { try input.checkUnchanged() }
    try interruption.check()
  }

  /// The temporary folder, and those in it that hold files.
  private func folders(of files: [OutputFile]) -> Set<FilePath> {
    var folders: Set = [temporary]
    for file in files {
      var folder = file.temporary.removingLastComponent()
      while folders.insert(folder).inserted { folder.removeLastComponent() }
    }
    return folders
  }

  /// Gives the output its name.
  ///
  /// - Throws: `output.…`; `output.busy` where another writer was first, `output.unconfirmed` where the name may not last.
  public func publish() throws(SurgeryError) {
    try takePlace(of: found)
    do { try FileSystem.flushFolder(parent) } catch {
      throw SurgeryError(
        .io, "output.unconfirmed",
        "written, not confirmed on disk: flushing the folder failed (\(error.description))",
        file: path)
    }
  }

  private func takePlace(of found: Found) throws(SurgeryError) {
    do throws(Errno) {
      switch (found, kind) {
      case (.nothing, _): try FileSystem.renameWithoutReplacing(temporary, to: target)
      // The system refuses where the folder is no longer empty.
      case (.emptyFolder, _), (.output, .file): try FileSystem.rename(temporary, to: target)
      case (.output, .folder): try FileSystem.exchange(temporary, target)
      }
    } catch {
      guard found != .output, error == .fileExists || error == .directoryNotEmpty else {
        throw SurgeryError.writing(path, "rename", error)
      }
      guard isForced else {
        throw SurgeryError(
          .busy, "output.busy", "another writer made the output meanwhile", file: path,
          hint: "--force replaces it")
      }
      let existing: FileSystem.Status
      do { existing = try FileSystem.status(of: target, followingLinks: false) } catch {
        throw SurgeryError.writing(path, "stat", error)
      }
      _ = try Self.check(existing, at: path, kind: kind, replacing: true, inputs: inputs)
      try takePlace(of: .output)
    }
  }
}
