import SystemPackage
import Tensors

extension SurgeryError {
  /// The error for a system call that failed on an input.
  static func reading(_ path: String, _ call: String, _ error: Errno) -> Self {
    switch error {
    case .noSuchFileOrDirectory, .notDirectory, .fileNameTooLong, .tooManySymbolicLinkLevels:
      Self(
        .missingInput, "file.missing", "no such file or folder", file: path,
        hint: path.hasPrefix("~")
          ? "the shell expands ~ where a word begins with it and is not quoted" : nil)
    case .permissionDenied, .notPermitted:
      Self(.permission, "file.permission", "not permitted to read", file: path)
    case .tooManyOpenFiles, .tooManyOpenFilesInSystem: openFiles(path, call, error)
    default:
      Self(.io, "io.read", "\(call) failed: \(error.description)", file: path)
    }
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
