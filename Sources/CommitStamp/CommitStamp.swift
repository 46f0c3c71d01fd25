import Foundation
import PackagePlugin

/// Writes a source file that names the commit, at every build and before it, so that `--version` can say what it was.
@main
struct CommitStamp: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: any Target) -> [Command] {
    let script = context.package.directoryURL.appending(path: "Sources/CommitStamp/commit.sh")
    let output = context.pluginWorkDirectoryURL.appending(path: "generated")
    return [
      .prebuildCommand(
        displayName: "Naming the commit", executable: URL(filePath: "/bin/sh"),
        arguments: [script, output].map { $0.path(percentEncoded: false) },
        outputFilesDirectory: output)
    ]
  }
}
