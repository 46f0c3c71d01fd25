public import Adapters
import Checkpoints
public import Tensors

/// An adapter that takes part in an operation, with its weight.
public struct WeightedAdapter: Sendable, Codable, Hashable {
  /// File or folder.
  public var path: String
  /// How much of it is applied; 1 for all.
  public var weight: Double

  /// Names an adapter and weighs it.
  public init(_ path: String, weight: Double = 1) {
    self.path = path
    self.weight = weight
  }
}

/// A factor for the deltas of some tensors.
public struct ScaleRule: Sendable, Codable, Hashable {
  /// A regular expression, matched anywhere in a tensor's name.
  public var pattern: String
  /// Multiplies the weight of every adapter there.
  public var factor: Double

  /// Creates a rule; `--scale-for REGEX=F`.
  public init(pattern: String, factor: Double) {
    self.pattern = pattern
    self.factor = factor
  }
}

/// Adds adapters to a model, or takes them out of one.
public struct MergeRequest: Sendable, Codable {
  /// Whether adapters are put in or taken out.
  public var direction: MergeDirection
  /// The model to start from: file or folder.
  public var model: String
  /// The adapters, in the order in which they are applied; taking out goes the other way.
  public var adapters: [WeightedAdapter]
  /// Where the result goes.
  public var output: String
  /// The storage dtype of changed tensors; by default the source's.
  public var dtype: DType?
  /// What the user says about the adapters.
  public var adapterOptions = AdapterOptions()
  /// Which tensors of the model take part; others are copied.
  public var selection = Selection()
  /// Factors for the deltas of tensors whose names match; of several that match, the first counts.
  public var scaleFor: [ScaleRule] = []
  /// The precision of the arithmetic.
  public var precision = Precision.float32
  /// How results are rounded.
  public var rounding = RoundingMode.nearest
  /// Merging writes what takes the merge back bit for bit to this file; unmerging reads it.
  public var undo: String?
  /// Whether finite results that the storage dtype cannot hold are accepted.
  public var allowOverflow = false
  /// The most bytes of tensors in one shard of the output.
  public var maximumShardSize: Int?
  /// Whether an existing output is replaced.
  public var force = false
  /// Whether only the plan is made.
  public var dryRun = false
  /// The share of the work to do, whose result is a piece for ``GatherRequest``; `nil` for all of it.
  public var part: Part?

  /// Asks for a merge or its inverse.
  ///
  /// - Parameters:
  ///   - direction: Whether adapters are put in or taken out.
  ///   - model: The model to start from.
  ///   - adapters: The adapters.
  ///   - output: Where the result goes.
  public init(
    _ direction: MergeDirection = .merge, model: String, adapters: [WeightedAdapter], output: String
  ) {
    self.direction = direction
    self.model = model
    self.adapters = adapters
    self.output = output
  }
}
