import SystemPackage
import Tensors

extension SurgeryError {
  /// The error for a system call that failed on an input.
  static func reading(_ path: String, _ call: String, _ error: Errno) -> Self {
    switch error {
    case .noSuchFileOrDirectory, .notDirectory, .fileNameTooLong, .tooManySymbolicLinkLevels:
      path.isEmpty
        ? Self(
          .missingInput, "file.missing", "the path of an input is empty",
          hint: "a variable of the shell may be unset")
        : Self(
          .missingInput, "file.missing", "no such file or folder", file: path,
          hint: reasonOfAbsence(path))
    case .permissionDenied, .notPermitted:
      Self(.permission, "file.permission", "not permitted to read", file: path)
    case .tooManyOpenFiles, .tooManyOpenFilesInSystem: openFiles(path, call, error)
    default:
      Self(.io, "io.read", "\(call) failed: \(error.description)", file: path)
    }
  }

  /// What the user may have taken the path for.
  private static func reasonOfAbsence(_ path: String) -> String? {
    if path.hasPrefix("~") {
      return "the shell expands ~ where a word begins with it and is not quoted"
    }
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    let isHubName = parts.count == 2 && !parts[0].isEmpty && !parts[1].isEmpty
    guard path.contains("://") || isHubName && !Places.exists(String(parts[0])) else { return nil }
    return "nothing is downloaded: name a file or folder on this machine"
  }

  private static func openFiles(_ path: String, _ call: String, _ error: Errno) -> Self {
    Self(
      .io, "io.open-files", "\(call) failed: \(error.description)", file: path,
      hint: "'ulimit -Hn' is the most files that may be open; an .npz is one file")
  }

  /// The error for a system call that failed on an output.
  static func writing(_ path: String, _ call: String, _ error: Errno) -> Self {
    switch error {
    case .permissionDenied, .notPermitted:
      Self(.permission, "output.permission", "not permitted to write here (\(call))", file: path)
    case .readOnlyFileSystem, .resourceBusy, .improperLink:
      Self(
        .outputRefused, "output.refused", "\(call) refused: \(error.description)", file: path,
        hint: "choose another output")
    case .noSuchFileOrDirectory, .notDirectory:
      Self(
        .outputRefused, "output.no-folder", "the output's folder does not exist", file: path,
        hint: "create the folder first")
    case .fileExists:
      Self(
        .outputRefused, "output.exists", "the output exists", file: path,
        hint: "--force replaces it")
    case .noSpace, .diskQuotaExceeded, .fileTooLarge:
      Self(
        .io, "output.no-space", "\(call) failed: \(error.description)", file: path,
        hint: "free space there, or choose another output")
    case .tooManyOpenFiles, .tooManyOpenFilesInSystem: openFiles(path, call, error)
    default:
      Self(.io, "io.write", "\(call) failed: \(error.description)", file: path)
    }
  }
}
