import ArgumentParser
import LoRASurgery
import Synchronization
import Tensors

struct InspectCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "List what lies in checkpoints and adapters.",
    discussion: """
      Only headers are read, unless --stats asks for the data. Of an adapter, the dialect, ranks, scales and what it \
      changes are told; with --base also whether it fits.

        lora-surgery inspect model/
        lora-surgery inspect adapter.safetensors --stats --base model/
        find . -name '*.safetensors' | lora-surgery inspect --files-from - --json
      """)

  @Argument(help: "Files and folders.", completion: .checkpoints)
  var paths: [String] = []

  @Flag(help: "Read the data: smallest, largest, mean, norm, NaN and infinity of every tensor.")
  var stats = false

  @Option(
    help: ArgumentHelp("The model that adapters are compared with.", valueName: "path"),
    completion: .checkpoints)
  var base: String?

  @OptionGroup(title: "Lists of inputs") var names: FileListOptions
  @OptionGroup(title: "What adapters do not say themselves")
  var reading: AdapterReadingOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func request() throws -> InspectRequest {
    try request(names.paths(paths))
  }

  private func request(_ paths: [String]) throws -> InspectRequest {
    var request = InspectRequest(paths: paths, stats: stats, selection: selection.selection)
    request.base = base
    request.adapterOptions = try reading.options()
    return request
  }

  func run() throws {
    let inputs = try names.paths(paths)
    let request = try request(inputs)
    let text = InspectText(stats: stats, verbose: common.verbose, width: Console.width)
    // Named one by one on the command line they are one report; a list of any length is a report a line.
    guard names.filesFrom != nil || inputs.count > 1 else {
      let report = try common.execute { (execution) throws(SurgeryError) in
        try request.run(execution)
      }
      try common.show(report, warnings: report.files.flatMap(\.warnings)) {
        report.files.flatMap(text.lines)
      }
      return
    }
    let isOneReport = names.filesFrom == nil
    let printer = ListPrinter(
      command: "inspect", common: common, isOneReport: isOneReport, endsWithReader: true)
    let list = InputList(inputs.map { .init(input: $0) })
    let files = Mutex<[InspectedFile]>([])
    try common.execute { (execution) throws(SurgeryError) in
      try list.run(execution) { (item, execution) throws(SurgeryError) in
        var request = request
        request.paths = [item.input]
        return try request.run(execution)
      } receive: { item, outcome in
        printer.receive(item, outcome) { report in
          report.files.flatMap(text.lines).joined(separator: "\n")
        }
        guard case .done(let report) = outcome else { return }
        common.warn(report.files.flatMap(\.warnings))
        files.withLock { $0 += report.files }
      }
    }
    if isOneReport, common.json {
      try Console.print(try ReportJSON.text(InspectReport(files: files.withLock { $0 })))
    }
    try printer.finish()
  }
}
