public import Checkpoints
import Tensors

/// An adapter: changes of tensors, with nothing of any dialect left in it.
///
///     let adapter = try Adapter(opening: "my-lora")
///     let resolved = try adapter.resolved(against: try Checkpoint(opening: "base"))
public struct Adapter: Sendable {
  /// Where an adapter comes from and what its files say about it.
  public struct Provenance: Sendable {
    /// The dialect that it was read from or is meant for.
    public var dialect: Dialect
    /// How the dialect was recognised.
    public var reason: String
    /// The metadata of its file of tensors.
    public var metadata: [String: String] = [:]
    /// The configuration beside it.
    public var config: JSONValue?
    /// The base model that it says it was trained on.
    public var baseName: String?
    /// What it says of the content of the base's file: the short hash that trainers of image models write.
    public var baseHash: String?
    /// The configuration of the model that the adapter belongs to, for dialects that need it: the heads of GGUF.
    public var baseConfig: JSONValue?
    /// What was read though it is unusual.
    public var warnings: [String] = []
    /// The initialisation that changed the base before training, so that the factors belong to the residual base.
    public var baseChange: String?
    /// What a compact file says of itself.
    public var compact: CompactFacts?
    /// The command that made it, with the options that shaped it, where that is known.
    public var command: String?
    /// What tells its base from another, where it is known.
    public var base: BaseFingerprint?

    /// Creates a provenance.
    public init(dialect: Dialect, reason: String) {
      self.dialect = dialect
      self.reason = reason
    }
  }

  /// The path as the user named it, or what made the adapter.
  public var path: String
  /// The changes, in the order of the file.
  public var modules: [ModuleUpdate]
  /// Tensors stored in full.
  public var replacements: [Replacement]
  /// Where it comes from.
  public var provenance: Provenance
  /// The flag of the adapter's configuration that says targets are stored `in x out`; unreliable, so used last.
  public var fanInFanOut: Bool?

  /// Creates an adapter from its parts.
  public init(
    path: String, modules: [ModuleUpdate], replacements: [Replacement] = [],
    provenance: Provenance
  ) {
    self.path = path
    self.modules = modules
    self.replacements = replacements
    self.provenance = provenance
  }

  /// The files that its tensors lie in.
  public var inputs: [InputFile] {
    var seen = Set<ObjectIdentifier>()
    let tensors = modules.flatMap { $0.update.factors.map(\.tensor) } + replacements.map(\.tensor)
    return tensors.map(\.source.file).filter { seen.insert(ObjectIdentifier($0)).inserted }
  }
}
