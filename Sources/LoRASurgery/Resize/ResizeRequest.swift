public import Adapters
public import Tensors

/// Changes the ranks of an adapter's low-rank factors, without the base.
public struct ResizeRequest: Sendable, Codable {
  /// The adapter: file or folder.
  public var adapter: String
  /// Where the result goes.
  public var output: String
  /// The ranks.
  public var ranks: RankOptions
  /// The dialect to write; by default the adapter's own.
  public var dialect: Dialect?
  /// The storage dtype of factors; by default that of each module.
  public var dtype: DType?
  /// What the user says about the adapter.
  public var adapterOptions = AdapterOptions()
  /// Which modules are resized, by the name of the tensor that they change; others are kept as they are.
  public var selection = Selection()
  /// Whether finite values that the storage dtype cannot hold are accepted.
  public var allowOverflow = false
  /// Whether an existing output is replaced.
  public var force = false
  /// Whether only the plan is made.
  public var dryRun = false

  /// Asks for other ranks.
  ///
  /// - Parameters:
  ///   - adapter: The adapter: file or folder.
  ///   - output: Where the result goes.
  ///   - ranks: The ranks.
  public init(adapter: String, output: String, ranks: RankOptions) {
    self.adapter = adapter
    self.output = output
    self.ranks = ranks
  }
}
