import ArgumentParser
import LoRASurgery
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
      """)

  @Argument(help: "Files and folders.")
  var paths: [String]

  @Flag(help: "Read the data: smallest, largest, mean, norm, NaN and infinity of every tensor.")
  var stats = false

  @Option(help: ArgumentHelp("The model that adapters are compared with.", valueName: "path"))
  var base: String?

  @OptionGroup var reading: AdapterReadingOptions
  @OptionGroup var selection: SelectionOptions
  @OptionGroup var common: CommonOptions

  func request() throws -> InspectRequest {
    var request = InspectRequest(paths: paths, stats: stats, selection: selection.selection)
    request.base = base
    request.adapterOptions = try reading.options()
    return request
  }

  func run() throws {
    let request = try self.request()
    let report = try common.execute { (execution) throws(SurgeryError) in
      try request.run(execution)
    }
    try common.show(report, warnings: report.files.flatMap(\.warnings)) {
      report.files.flatMap(lines)
    }
  }

  private func lines(of file: InspectedFile) -> [String] {
    let bytes = file.tensors.reduce(0) { $0 + $1.bytes }
    let parameters = file.tensors.reduce(0) { $0 + $1.shape.elementCount }
    var lines = [
      "\(DisplayText.escaped(file.path)): \(file.format)"
        + (file.shards > 1 ? ", \(file.shards) shards" : "")
        + ", \(Quantities.grouped(file.tensors.count)) tensors, "
        + "\(Quantities.grouped(parameters)) parameters, \(Quantities.bytes(bytes))"
    ]
    if let adapter = file.adapter {
      lines += AdapterText(adapter, verbose: common.verbose).lines(width: Console.width)
    }
    for (key, value) in file.metadata.sorted(by: { $0.key < $1.key }) {
      lines.append("  \(DisplayText.escaped(key)): \(DisplayText.escaped(value))")
    }
    if file.adapter != nil, !common.verbose { return lines }
    var table = TextTable(
      [("tensor", .left), ("dtype", .left), ("shape", .left), ("size", .right)]
        + (stats
          ? [
            ("min", .right), ("max", .right), ("mean", .right), ("norm", .right), ("NaN", .right),
            ("inf", .right),
          ] : []))
    for tensor in file.tensors {
      var row = [
        tensor.name.text, tensor.dtype, tensor.shape.description, Quantities.bytes(tensor.bytes),
      ]
      if stats {
        let facts = tensor.stats
        row += [facts?.minimum, facts?.maximum, facts?.mean, facts?.norm].map {
          $0.map { Quantities.significant($0) } ?? "-"
        }
        row += [facts?.nan, facts?.infinite].map { $0.map(String.init) ?? "-" }
      }
      table.add(row)
    }
    return lines + table.lines(width: Console.width)
  }
}
