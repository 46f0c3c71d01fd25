import Adapters
import ArgumentParser
import LoRASurgery

/// What an adapter's files do not say themselves.
struct AdapterReadingOptions: ParsableArguments {
  @Option(
    name: .customLong("from"),
    help: ArgumentHelp(
      "The adapter's dialect, where it is not to be detected.", valueName: "dialect"))
  var dialect: Dialect?

  @Option(
    help: ArgumentHelp(
      "Alpha, for all modules or for those that a name or regular expression matches (repeatable).",
      valueName: "[module=]number"))
  var alpha: [String] = []

  @Option(
    help: ArgumentHelp(
      "The final scale instead of alpha (repeatable).", valueName: "[module=]number"))
  var scale: [String] = []

  @Option(
    help: ArgumentHelp(
      "How alpha and rank give the scale.", valueName: "alpha/r|alpha/sqrt(r)|none"))
  var rankScale: RankScale?

  @Option(
    help: ArgumentHelp(
      "Whether targets are stored in x out (repeatable).", valueName: "[module=]auto|yes|no"))
  var fanInFanOut: [String] = []

  @Option(
    help: ArgumentHelp(
      "Which parts of loralib's MergedLinear are enabled, as true,false,true (repeatable).",
      valueName: "[module=]list"))
  var enableLora: [String] = []

  @Option(
    help: ArgumentHelp(
      "The names of two factors and of their base tensor; {} stands for a module's name (repeatable).",
      valueName: "down,up=tensor"))
  var pair: [String] = []

  @Option(
    help: ArgumentHelp(
      "Rename the adapter's modules before they are looked for in the base (repeatable).",
      valueName: "s/regex/text/"))
  var map: [String] = []

  @Option(
    help: ArgumentHelp(
      "The model that an adapter of PiSSA, OLoRA and the like was trained on.", valueName: "path"))
  var residualBase: String?

  @Flag(help: "Give output head and embedding a tensor each, instead of changing the shared one.")
  var untieEmbeddings = false

  @Flag(help: "Warn of adapter tensors that match nothing in the base, instead of refusing.")
  var allowUnmatched = false

  @Flag(help: "Apply an adapter that records another base than the one given.")
  var allowOtherBase = false

  func validate() throws { _ = try options() }

  /// The options as the library takes them.
  func options() throws -> AdapterOptions {
    var options = AdapterOptions()
    options.dialect = dialect
    options.alphas = try alpha.map { try Self.number($0, "--alpha") }
    options.scales = try scale.map { try Self.number($0, "--scale") }
    options.rankScale = rankScale
    options.fanInFanOut = try fanInFanOut.compactMap { text in
      let (module, value) = Self.split(text)
      switch value {
      case "auto": return nil
      case "yes", "true": return .init(module: module, value: true)
      case "no", "false": return .init(module: module, value: false)
      default: throw ValidationError("--fan-in-fan-out takes auto, yes or no, not '\(value)'")
      }
    }
    options.enabledParts = try enableLora.map { text in
      let (module, value) = Self.split(text)
      let parts = try value.split(separator: ",").map { part in
        switch part {
        case "true", "yes", "1": true
        case "false", "no", "0": false
        default: throw ValidationError("--enable-lora takes true and false, not '\(part)'")
        }
      }
      return .init(module: module, value: parts)
    }
    options.pairs = try pair.map { text in
      guard let equals = text.firstIndex(of: "="),
        let comma = text[..<equals].firstIndex(of: ",")
      else { throw ValidationError("--pair takes DOWN,UP=TENSOR, not '\(text)'") }
      return .init(
        down: String(text[..<comma]), up: String(text[text.index(after: comma)..<equals]),
        tensor: String(text[text.index(after: equals)...]))
    }
    options.renamings = try map.map { text in
      let renaming = try Renaming(text)
      guard !renaming.template.contains("$") else {
        throw ValidationError("--map takes plain text as replacement, not '\(renaming.template)'")
      }
      return .init(pattern: renaming.pattern, replacement: renaming.template)
    }
    options.residualBase = residualBase
    options.untiesEmbeddings = untieEmbeddings
    options.allowsUnmatched = allowUnmatched
    options.allowsOtherBase = allowOtherBase
    return options
  }

  private static func number(
    _ text: String, _ option: String
  ) throws -> AdapterOptions.Rule<Double> {
    let (module, value) = split(text)
    guard let number = Double(value), number.isFinite else {
      throw ValidationError("\(option) takes a finite number, not '\(value)'")
    }
    return .init(module: module, value: number)
  }

  private static func split(_ text: String) -> (module: String?, value: String) {
    guard let equals = text.lastIndex(of: "=") else { return (nil, text) }
    return (String(text[..<equals]), String(text[text.index(after: equals)...]))
  }
}
