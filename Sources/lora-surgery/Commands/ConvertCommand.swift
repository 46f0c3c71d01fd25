import Adapters
import ArgumentParser
import Checkpoints
import LoRASurgery
import Tensors

struct ConvertCommand: JobCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract:
      "Write a checkpoint in another format, layout or dtype, or an adapter in another dialect.",
    discussion: """
      The output's extension says the format; a name without one is a folder of the input's layout. Naming a dialect \
      converts an adapter: exactly, or not at all unless --as lora factors it anew.

        lora-surgery convert model/ -o model.safetensors
        lora-surgery convert model.safetensors -o half/ --dtype f16
        lora-surgery convert model.safetensors -o model.npz --compress 6
        lora-surgery convert adapter/ -o lora.safetensors --to kohya --base unet/
        lora-surgery convert adapter/ -o lora/ --as lora --energy 0.95 --base model/
        ls *.npz | lora-surgery convert --files-from - --suffix .safetensors
      """)

  @Argument(
    help: ArgumentHelp("Checkpoints or adapters: files or folders.", valueName: "input"),
    completion: .checkpoints)
  var inputs: [String] = []

  @Option(
    name: .customLong("to"),
    help: ArgumentHelp(
      "The format of a checkpoint, or the dialect of an adapter.", valueName: "form"))
  var form: ConversionForm?

  @Option(
    name: .customLong("as"),
    help: ArgumentHelp(
      "Turn every update of an adapter into low-rank factors; 'lora' is the one kind.",
      valueName: "kind"))
  var kind: ConversionKind?

  @Option(
    help: ArgumentHelp(
      "The model that an adapter belongs to, where its names or shapes decide.", valueName: "path"),
    completion: .checkpoints)
  var base: String?

  @Option(
    help: ArgumentHelp("The prefix of an adapter's keys, as kohya's lora_unet.", valueName: "text"))
  var prefix: String?

  @Option(
    help: ArgumentHelp(
      "Split the output into shards of at most this size, as 5GB.", valueName: "size"))
  var maxShardSize: ByteSize?

  @Option(
    help: ArgumentHelp(
      "Rename tensors; $1 stands for the first group (repeatable).", valueName: "s/regex/template/")
  )
  var rename: [String] = []

  @Option(
    help: ArgumentHelp(
      "Transpose the storage of tensors of two dimensions whose names match (repeatable).",
      valueName: "regex"))
  var transpose: [String] = []

  @Option(
    help: ArgumentHelp(
      "Deflate an npz, from 1 (fastest) to 9 (smallest); otherwise it is stored.",
      valueName: "level"))
  var compress: Int?

  @Option(help: ArgumentHelp("Set a key of the metadata (repeatable).", valueName: "key=value"))
  var metadata: [String] = []

  @Option(help: ArgumentHelp("Leave a key of the metadata out (repeatable).", valueName: "key"))
  var dropMetadata: [String] = []

  @Option(
    help: ArgumentHelp(
      "The most that all deltas of a compact file may be off together; --max-error limits each.",
      valueName: "fraction"))
  var maxErrorTotal: Double?

  @Option(
    help: ArgumentHelp(
      "A name for --max-error of a compact file: lossless, high (0.01), medium (0.05), small (0.15).",
      valueName: "name"))
  var quality: CompactQuality?

  @OptionGroup(title: "Ranks of --as lora") var ranks: RankArguments
  @OptionGroup(title: "What adapters do not say themselves")
  var reading: AdapterReadingOptions
  @OptionGroup(title: "Results, and lists of inputs") var list: InputListOptions
  @OptionGroup(title: "Output") var writing: WritingOptions
  @OptionGroup(title: "Which tensors") var selection: SelectionOptions
  @OptionGroup(title: "Division over machines") var division: PartOptions
  @OptionGroup(title: "Means and messages") var common: CommonOptions

  func validate() throws {
    if let compress, !(1...9 ~= compress) {
      throw ValidationError("--compress takes a level from 1 to 9, not \(compress)")
    }
  }

  func request() throws -> ConvertRequest {
    var request = try requestForAll()
    (request.input, request.output) = try list.single(inputs)
    request.force = writing.force
    return request
  }

  func run() throws {
    let request = try requestForAll()
    let format = form?.format ?? form?.dialect?.container
    try list.run(
      "convert", inputs, format: format, part: try division.chosen(), writing: writing,
      common: common
    ) { (item, output, mayReplace, part, execution) throws(SurgeryError) in
      var request = request
      request.input = item.input
      request.output = output
      request.force = mayReplace
      request.part = part
      return try request.run(execution)
    }
  }

  /// What is asked for every input.
  private func requestForAll() throws -> ConvertRequest {
    var request = ConvertRequest(input: "", output: "")
    request.form = OutputForm(
      format: form?.format, maximumShardSize: maxShardSize?.bytes, compression: compress)
    request.dialect = form?.dialect
    request.asLowRank = kind == .lora
    request.ranks = ranks.options
    request.base = base
    request.maximumTotalError = maxErrorTotal
    request.quality = quality
    request.prefix = prefix
    request.adapterOptions = try reading.options()
    request.dtype = writing.dtype
    request.selection = selection.selection
    request.renamings = try rename.map { try Renaming($0) }
    request.transposed = transpose
    for pair in metadata {
      guard let equals = pair.firstIndex(of: "="), equals != pair.startIndex else {
        throw ValidationError("--metadata takes KEY=VALUE, not '\(pair)'")
      }
      request.metadata[String(pair[..<equals])] = String(pair[pair.index(after: equals)...])
    }
    request.droppedMetadata = dropMetadata
    request.allowOverflow = writing.allowOverflow
    request.dryRun = writing.dryRun
    return request
  }
}

/// What `--to` may name: a container of tensors, a dialect of adapters, or a name of both.
struct ConversionForm: ExpressibleByArgument {
  var format: FileFormat?
  var dialect: Dialect?

  init?(argument: String) {
    format = FileFormat(rawValue: argument)
    dialect = Dialect(rawValue: argument)
    if format == nil, dialect == nil { return nil }
  }

  static var allValueStrings: [String] {
    ["safetensors", "npz", "npy"] + WrittenDialect.allValueStrings
  }

  static var defaultCompletionKind: CompletionKind { .list(allValueStrings) }
}

extension Dialect {
  /// The container that is the dialect's own, where it has one.
  var container: FileFormat? {
    switch self {
    case .gguf: .gguf
    case .compact: .compact
    default: nil
    }
  }
}

/// What `--as` may name.
enum ConversionKind: String, ExpressibleByArgument {
  case lora
}
