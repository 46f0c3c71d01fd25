import LinearAlgebra
import LoRASurgery

/// What `--version` says: the program, the commit it was built from, and the library that computes with its kernel.
enum VersionText {
  static var lines: [String] {
    [
      "lora-surgery \(Version.current) (commit \(commit))",
      "\(BLASLibrary.version), kernel \(BLASLibrary.kernel)",
    ]
  }

  /// The commit, shortened; a plus follows where sources differed from it.
  static var commit: String {
    let name = BuiltCommit.name
    guard !name.isEmpty else { return "unknown" }
    return name.prefix(12) + (name.hasSuffix("+") ? "+" : "")
  }
}
