public import Adapters
public import Checkpoints
public import Tensors

/// Writes a checkpoint in another format, layout or dtype, or an adapter in another dialect.
public struct ConvertRequest: Sendable, Codable {
  /// The checkpoint or adapter to read: file or folder.
  public var input: String
  /// Where the result goes.
  public var output: String
  /// Format and shards of the result, where the path does not say.
  public var form = OutputForm()
  /// The storage dtype: a floating-point type is for floating-point tensors, an integer type for the others.
  public var dtype: DType?
  /// Which tensors are written.
  public var selection = Selection()
  /// Renamings, applied one after the other.
  public var renamings: [Renaming] = []
  /// Regular expressions for the names of tensors of two dimensions that are written transposed.
  public var transposed: [String] = []
  /// Metadata to set.
  public var metadata: [String: String] = [:]
  /// Keys of metadata to leave out.
  public var droppedMetadata: [String] = []
  /// The dialect to write, which makes the input an adapter; `gguf` and `compact` are containers of checkpoints too.
  public var dialect: Dialect?
  /// Whether every update becomes low-rank factors, by truncation where it has more rank.
  public var asLowRank = false
  /// The ranks of what is factored anew.
  public var ranks = RankOptions()
  /// The model that the adapter belongs to, where its names or shapes decide: a file or folder, for GGUF a folder with
  /// `config.json` at least.
  public var base: String?
  /// The most that all deltas together may be off in a compact file, relative to their norm; `ranks.maxError` is the limit
  /// of each.
  public var maximumTotalError: Double?
  /// A name for a limit of each delta's error in a compact file.
  public var quality: CompactQuality?
  /// The prefix of keys in dialects that have one to choose, such as kohya's `lora_unet`.
  public var prefix: String?
  /// What the user says about the adapter.
  public var adapterOptions = AdapterOptions()
  /// Whether finite values that the storage dtype cannot hold are accepted.
  public var allowOverflow = false
  /// Whether an existing output is replaced.
  public var force = false
  /// Whether only the plan is made.
  public var dryRun = false

  /// Asks for a conversion.
  public init(input: String, output: String) {
    self.input = input
    self.output = output
  }
}
