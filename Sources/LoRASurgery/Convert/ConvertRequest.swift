public import Checkpoints
public import Tensors

/// Writes a checkpoint in another format, layout or dtype.
public struct ConvertRequest: Sendable, Codable {
  /// The checkpoint to read: file or folder.
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
  /// Metadata to set.
  public var metadata: [String: String] = [:]
  /// Keys of metadata to leave out.
  public var droppedMetadata: [String] = []
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
