import CSystemCalls
import SystemPackage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The system calls that swift-system does not spell, each behind one function with a plain fallback.
enum FileSystem {
  /// What tells one file from another, and one state of a file from the next.
  struct Status: Hashable, Sendable {
    var device: UInt64
    var inode: UInt64
    var size: Int64
    var modifiedSeconds: Int64
    var modifiedNanoseconds: Int64
    var mode: UInt32

    /// Whether both are the same file, whatever its state.
    func isSameFile(as other: Self) -> Bool { device == other.device && inode == other.inode }

    var isRegularFile: Bool { mode & UInt32(S_IFMT) == UInt32(S_IFREG) }
    var isFolder: Bool { mode & UInt32(S_IFMT) == UInt32(S_IFDIR) }
    var isLink: Bool { mode & UInt32(S_IFMT) == UInt32(S_IFLNK) }

    fileprivate init(_ raw: stat) {
      device = UInt64(raw.st_dev)
      inode = UInt64(raw.st_ino)
      size = Int64(raw.st_size)
      mode = UInt32(raw.st_mode)
      #if canImport(Darwin)
        modifiedSeconds = Int64(raw.st_mtimespec.tv_sec)
        modifiedNanoseconds = Int64(raw.st_mtimespec.tv_nsec)
      #else
        modifiedSeconds = Int64(raw.st_mtim.tv_sec)
        modifiedNanoseconds = Int64(raw.st_mtim.tv_nsec)
      #endif
    }
  }

  /// `fstat`.
  static func status(of descriptor: FileDescriptor) throws(Errno) -> Status {
    var raw = stat()
    try check(unsafe fstat(descriptor.rawValue, &raw))
    return Status(raw)
  }

  /// `stat`, or `lstat` where `followingLinks` is false.
  static func status(of path: FilePath, followingLinks: Bool = true) throws(Errno) -> Status {
    var raw = stat()
    try unsafe check(
      path.withPlatformString { unsafe followingLinks ? stat($0, &raw) : lstat($0, &raw) })
    return Status(raw)
  }

  /// The entries of a folder without `.` and `..`, sorted by bytes.
  static func contents(of folder: FilePath) throws(Errno) -> [String] {
    guard let stream = unsafe folder.withPlatformString({ unsafe opendir($0) }) else {
      throw Errno(rawValue: errno)
    }
    defer { unsafe _ = closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { tuple in
        unsafe tuple.withMemoryRebound(
          to: CChar.self, capacity: MemoryLayout.size(ofValue: tuple.pointee)
        ) { unsafe String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// `realpath`: the absolute path without links, or `nil` where something on the way is missing.
  static func realPath(_ path: FilePath) -> FilePath? {
    unsafe path.withPlatformString { path in
      guard let text = unsafe realpath(path, nil) else { return nil }
      defer { unsafe free(text) }
      return unsafe FilePath(platformString: text)
    }
  }

  /// `fnmatch`: whether a name matches a pattern, whose wildcards do not match a leading dot.
  static func name(_ name: String, matches pattern: String) -> Bool {
    unsafe name.withCString { name in
      unsafe pattern.withCString { unsafe fnmatch($0, name, FNM_PERIOD) == 0 }
    }
  }

  /// `flock`, exclusive; fails at once where another process holds the lock.
  static func lock(_ descriptor: FileDescriptor) throws(Errno) {
    try check(flock(descriptor.rawValue, LOCK_EX | LOCK_NB))
  }

  /// Whether a file lies in a folder, however deep, by its path or by where its links lead.
  static func isInside(_ file: FilePath, folder: Status) -> Bool {
    var places = [file.removingLastComponent()]
    if let resolved = realPath(file) { places.append(resolved.removingLastComponent()) }
    return places.contains { place in
      var place = place.isEmpty ? "." : place
      var previous: Status?
      while let status = try? status(of: place) {
        if status.isSameFile(as: folder) { return true }
        if let previous, previous.isSameFile(as: status) { return false }
        previous = status
        place.append("..")
      }
      return false
    }
  }

  /// Makes an empty file for this user alone; `EEXIST` where the name is taken.
  static func makeFile(_ path: FilePath) throws(Errno) {
    let descriptor: FileDescriptor
    do {
      descriptor = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
        permissions: .ownerReadWrite)
    } catch {
      throw (error as? Errno) ?? .ioError
    }
    // Nothing was written yet that could be lost.
    try? descriptor.close()
  }

  /// Opens a new file in a folder that goes with its descriptor: without a name where the system can, else with one for a moment.
  static func openNameless(in folder: FilePath) throws(Errno) -> FileDescriptor {
    let opened = unsafe folder.withPlatformString { unsafe lora_open_nameless($0) }
    if opened >= 0 { return FileDescriptor(rawValue: opened) }
    let suffix = String(UInt64.random(in: .min ... .max), radix: 36)
    let temporary = folder.appending(".spool.\(suffix).part")
    let descriptor: FileDescriptor
    do {
      descriptor = try FileDescriptor.open(
        temporary, .readWrite, options: [.create, .exclusiveCreate, .closeOnExec],
        permissions: .ownerReadWrite)
    } catch {
      throw (error as? Errno) ?? .ioError
    }
    do throws(Errno) { try removeFile(temporary) } catch {
      try? descriptor.close()
      throw error
    }
    return descriptor
  }

  /// `mkdir` with mode 0777 less the umask.
  static func makeFolder(_ path: FilePath) throws(Errno) {
    try unsafe check(path.withPlatformString { unsafe mkdir($0, 0o777) })
  }

  /// `linkat`, following links: gives a file a second name.
  static func link(_ file: FilePath, to name: FilePath) throws(Errno) {
    try unsafe check(
      file.withPlatformString { from in
        unsafe name.withPlatformString { to in
          unsafe linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW)
        }
      })
  }

  /// `unlink`.
  static func removeFile(_ path: FilePath) throws(Errno) {
    try unsafe check(path.withPlatformString { unsafe unlink($0) })
  }

  /// `rmdir`.
  static func removeEmptyFolder(_ path: FilePath) throws(Errno) {
    try unsafe check(path.withPlatformString { unsafe rmdir($0) })
  }

  /// Removes a file, or a folder with all that it holds; what cannot be removed stays.
  static func removeTree(_ path: FilePath) {
    if (try? removeFile(path)) != nil { return }
    // Never through a link that could not be removed.
    guard (try? status(of: path, followingLinks: false))?.isFolder == true else { return }
    for name in (try? contents(of: path)) ?? [] { removeTree(path.appending(name)) }
    try? removeEmptyFolder(path)
  }

  /// `rename`, replacing what is at `target`.
  static func rename(_ source: FilePath, to target: FilePath) throws(Errno) {
    try unsafe check(
      source.withPlatformString { from in
        unsafe target.withPlatformString { to in
          #if canImport(Darwin)
            unsafe Darwin.rename(from, to)
          #elseif canImport(Musl)
            unsafe Musl.rename(from, to)
          #else
            unsafe Glibc.rename(from, to)
          #endif
        }
      })
  }

  /// Renames unless `target` exists, in one step where the file system can (EEXIST when it exists).
  static func renameWithoutReplacing(_ source: FilePath, to target: FilePath) throws(Errno) {
    // RENAME_NOREPLACE of linux/fs.h.
    if try renameWithFlags(source, target, flags: 1) { return }
    if (try? status(of: target, followingLinks: false)) != nil { throw .fileExists }
    try rename(source, to: target)
  }

  /// Exchanges two existing paths, in one step where the file system can.
  static func exchange(_ first: FilePath, _ second: FilePath) throws(Errno) {
    // RENAME_EXCHANGE of linux/fs.h.
    if try renameWithFlags(first, second, flags: 2) { return }
    var aside = first
    aside.removeLastComponent()
    aside.append((first.lastComponent?.string ?? "") + ".aside")
    try rename(second, to: aside)
    do throws(Errno) { try rename(first, to: second) } catch {
      try? rename(aside, to: second)
      throw error
    }
    // The new output is there by now; where its predecessor has no way back here, it goes from where it is.
    do throws(Errno) { try rename(aside, to: first) } catch { removeTree(aside) }
  }

  /// `renameat2`; returns false where the system or the file system does not know the flag.
  private static func renameWithFlags(
    _ source: FilePath, _ target: FilePath, flags: UInt32
  ) throws(Errno) -> Bool {
    let result = unsafe source.withPlatformString { from in
      unsafe target.withPlatformString { to in unsafe lora_renameat2(from, to, flags) }
    }
    if result == 0 { return true }
    let error = Errno(rawValue: -result)
    if error == .invalidArgument || error == .noFunction { return false }
    throw error
  }

  /// `fsync`; never called twice on a file after a failure, since the kernel drops the pages it could not write.
  static func flush(_ descriptor: FileDescriptor) throws(Errno) {
    // Interrupted before it began is no failure: no page has been dropped.
    try check(fsync(descriptor.rawValue))
  }

  /// Opens an existing file for writes past the page cache, or returns `nil` where there is no such thing.
  static func openDirect(_ path: FilePath) -> FileDescriptor? {
    let result = unsafe path.withPlatformString { unsafe lora_open_direct($0) }
    return result < 0 ? nil : FileDescriptor(rawValue: result)
  }

  /// Flushes a folder, so that a rename in it survives a power cut.
  static func flushFolder(_ folder: FilePath) throws(Errno) {
    let descriptor: FileDescriptor
    do { descriptor = try FileDescriptor.open(folder, .readOnly, options: .closeOnExec) } catch {
      throw (error as? Errno) ?? .ioError
    }
    let result = Result<Void, Errno> { () throws(Errno) in try flush(descriptor) }
    try? descriptor.close()
    // Some file systems cannot flush a folder and say EINVAL; there is nothing more to do there.
    if case .failure(let error) = result, error != .invalidArgument { throw error }
  }

  /// Reserves disk space for a file, so that a full disk is met before the work and not at its end.
  static func reserve(_ size: Int64, for descriptor: FileDescriptor) throws(Errno) {
    guard size > 0 else { return }
    // Not posix_fallocate: where a file system cannot reserve, glibc writes to every block instead.
    while true {
      let error = Errno(rawValue: -lora_fallocate(descriptor.rawValue, size))
      if error.rawValue == 0 { return }
      if error == .interrupted { continue }
      let isUnknown = error == .notSupported || error == .noFunction || error == .invalidArgument
      guard isUnknown || error.rawValue == EOPNOTSUPP else { throw error }
      try check(ftruncate(descriptor.rawValue, off_t(size)))
      return
    }
  }

  /// Copies bytes between files inside the kernel; returns how many it copied, 0 where it cannot.
  static func copyRange(
    from source: FileDescriptor, at sourceOffset: UInt64, to target: FileDescriptor,
    at targetOffset: UInt64, count: Int
  ) -> Int {
    max(
      0,
      Int(
        lora_copy_file_range(
          source.rawValue, Int64(sourceOffset), target.rawValue, Int64(targetOffset), count)))
  }

  /// Tells the kernel that a file will be read from front to back.
  static func adviseSequential(_ descriptor: FileDescriptor) {
    #if canImport(Glibc)
      _ = posix_fadvise(descriptor.rawValue, 0, 0, POSIX_FADV_SEQUENTIAL)
    #endif
  }

  /// `fchmod`.
  static func setMode(_ mode: UInt32, of descriptor: FileDescriptor) throws(Errno) {
    try check(fchmod(descriptor.rawValue, mode_t(mode)))
  }

  /// The mode a new file gets: 0666 less the umask.
  ///
  /// Asked once, because asking changes the umask for a moment, for all threads.
  static let defaultFileMode: UInt32 = {
    let mask = umask(0)
    _ = umask(mask)
    return 0o666 & ~UInt32(mask)
  }()

  /// Bytes free for this user on the file system that holds `path`.
  static func freeBytes(at path: FilePath) -> UInt64? {
    var raw = statvfs()
    guard unsafe path.withPlatformString({ unsafe statvfs($0, &raw) }) == 0 else { return nil }
    return UInt64(raw.f_bavail) * UInt64(raw.f_frsize)
  }

  /// Makes a call, again where a signal interrupted it before it did anything.
  private static func check(_ call: @autoclosure () -> CInt) throws(Errno) {
    while call() != 0 {
      let error = Errno(rawValue: errno)
      if error != .interrupted { throw error }
    }
  }
}
