import ArgumentParser
import LoRASurgery

/// A command that may be a job of a batch.
protocol JobCommand: ParsableCommand {
  associatedtype Request: BatchOperation

  /// What every command takes.
  var common: CommonOptions { get }

  /// What the options and operands ask for.
  func request() throws -> Request
}

extension JobCommand {
  static var jobName: String { configuration.commandName ?? "" }
}
