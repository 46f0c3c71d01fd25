public import Tensors

/// What `inspect` found.
public struct InspectReport: Sendable, Codable {
  /// Always "inspect".
  public var command = "inspect"
  /// The program's version.
  public var version = Version.current
  /// One entry for each path that was asked for.
  public var files: [InspectedFile]

  /// Reports on files.
  public init(files: [InspectedFile]) { self.files = files }
}

/// One checkpoint or adapter as it lies on disk.
public struct InspectedFile: Sendable, Codable {
  /// The path as the user named it.
  public var path: String
  /// The container format.
  public var format: String
  /// Files of tensors: 1, or the number of shards.
  public var shards: Int
  /// The containers' metadata.
  public var metadata: [String: String]
  /// The tensors in the order of the files.
  public var tensors: [InspectedTensor]
  /// The adapter, where the path holds one.
  public var adapter: InspectedAdapter?
  /// What was read though it is unusual.
  public var warnings: [String]
}

/// One tensor as it lies on disk.
public struct InspectedTensor: Sendable, Codable {
  /// Its name.
  public var name: TensorName
  /// The name of its dtype, as safetensors or the container spells it.
  public var dtype: String
  /// Its dimensions.
  public var shape: Shape
  /// Bytes of its data.
  public var bytes: Int
  /// What its elements are like, where that was asked for and the dtype allows it.
  public var stats: TensorStatistics?
}
