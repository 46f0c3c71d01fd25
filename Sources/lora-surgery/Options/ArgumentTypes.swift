public import Adapters
public import ArgumentParser
public import Checkpoints
public import LoRASurgery
public import Tensors

extension CompletionKind {
  /// Files of tensors, by their extensions, and folders.
  static let checkpoints = CompletionKind.file(
    extensions: ["safetensors", "npy", "npz", "pt", "pth", "bin", "ckpt", "gguf", "lra"])
}

extension DType: ExpressibleByArgument {
  /// Accepts the types that results can be stored in: safetensors' names in any case, and the short names of the float8 types.
  public init?(argument: String) {
    switch argument.uppercased() {
    case "F8", "E4M3", "F8E4M3": self = .f8e4m3
    case "E5M2", "F8E5M2": self = .f8e5m2
    case BlockQuantisation.q8_0.name: self = .blockQuantised(.q8_0)
    case let name:
      guard let type = DType(safetensorsName: name), type.isFloatingPoint else { return nil }
      self = type
    }
  }

  /// The spellings that help shows.
  public static var allValueStrings: [String] {
    ["f64", "f32", "f16", "bf16", "f8_e4m3", "f8_e5m2", "q8_0"]
  }

  /// Those spellings, for shells.
  public static var defaultCompletionKind: CompletionKind { .list(allValueStrings) }
}

extension Dialect: ExpressibleByArgument {}

/// A dialect as the output's: help and shells offer those that are written, the others are refused with the reason.
struct WrittenDialect: ExpressibleByArgument {
  let dialect: Dialect

  init?(argument: String) {
    guard let dialect = Dialect(rawValue: argument) else { return nil }
    self.dialect = dialect
  }

  static var allValueStrings: [String] { Adapter.writtenDialects.map(\.rawValue) }

  static var defaultCompletionKind: CompletionKind { .list(allValueStrings) }
}

extension CompactQuality: ExpressibleByArgument {}
extension RankScale: ExpressibleByArgument {}
extension FileFormat: ExpressibleByArgument {}
extension Precision: ExpressibleByArgument {}
extension ExtractRequest.Embeddings: ExpressibleByArgument {}
extension ExtractRequest.Others: ExpressibleByArgument {}
extension ExtractRequest.Method: ExpressibleByArgument {}

extension WeightedAdapter: ExpressibleByArgument {
  /// Files and folders; the weight is typed.
  public static var defaultCompletionKind: CompletionKind { .checkpoints }

  /// Splits `PATH:WEIGHT`; a path that really ends in a colon and a number is written with the weight 1 after it.
  public init(argument: String) {
    guard let colon = argument.lastIndex(of: ":"), colon != argument.startIndex,
      let weight = Double(argument[argument.index(after: colon)...])
    else {
      self.init(argument)
      return
    }
    self.init(String(argument[..<colon]), weight: weight)
  }
}

extension RankOptions.Budget: ExpressibleByArgument {
  /// Reads a size or a percentage.
  public init?(argument: String) {
    guard let budget = try? Self(argument) else { return nil }
    self = budget
  }
}

extension RankOptions.NamedRank: ExpressibleByArgument {
  /// Reads `REGEX=N`.
  public init?(argument: String) {
    guard let named = try? Self(argument) else { return nil }
    self = named
  }
}
extension CombineRequest.Method: ExpressibleByArgument {}
extension CombineRequest.MajoritySign: ExpressibleByArgument {}
