import Adapters
import ArgumentParser
import LoRASurgery
import Tensors

struct ResizeCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "resize",
    abstract: "Change the rank of an adapter, without its base.",
    discussion: """
      Every factor pair is decomposed without forming its product; the report says what each rank keeps of the delta.

        lora-surgery resize adapter/ -o smaller/ --rank 8
        lora-surgery resize lora.safetensors -o small.safetensors --sv-fro 0.95
        lora-surgery resize loras/*.safetensors -o small/ --rank 8 --skip-existing
      """)

  @Argument(
    help: ArgumentHelp("Adapters: files or folders.", valueName: "adapter"),
    completion: .checkpoints)
  var adapters: [String] = []

  @Option(
    name: .customLong("to"),
    help: ArgumentHelp("The dialect to write (default: the adapter's own).", valueName: "dialect"))
  var written: WrittenDialect?

  @OptionGroup(title: "Ranks") var ranks: RankArguments
  @OptionGroup(title: "What adapters do not say themselves")
  var reading: AdapterReadingOptions
  @OptionGroup(title: "Results, and lists of inputs") var list: InputListOptions
  @OptionGroup(title: "Output") var writing: WritingOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func request() throws -> ResizeRequest {
    var request = try requestForAll()
    (request.adapter, request.output) = try list.single(adapters)
    request.force = writing.force
    return request
  }

  func run() throws {
    let request = try requestForAll()
    try list.run(
      "resize", adapters, format: written?.dialect.container, writing: writing, common: common
    ) { (item, output, mayReplace, _, execution) throws(SurgeryError) in
      var request = request
      request.adapter = item.input
      request.output = output
      request.force = mayReplace
      return try request.run(execution)
    }
  }

  /// What is asked for every input.
  private func requestForAll() throws -> ResizeRequest {
    var request = ResizeRequest(adapter: "", output: "", ranks: ranks.options)
    request.dialect = written?.dialect
    request.dtype = writing.dtype
    request.adapterOptions = try reading.options()
    request.selection = selection.selection
    request.allowOverflow = writing.allowOverflow
    request.dryRun = writing.dryRun
    return request
  }
}
