public import Tensors

/// How one tensor differs between two checkpoints.
public struct TensorComparison: Sendable, Codable {
  /// What the comparison found.
  public enum Verdict: String, Sendable, Codable {
    /// The same values; of an adapter's changes, the same factors and scale.
    case identical
    /// Other values, within the tolerance.
    case close
    /// Other values, beyond the tolerance.
    case different
    /// Another shape.
    case shape
    /// In the first checkpoint alone.
    case missing
    /// In the second checkpoint alone.
    case extra
  }

  /// The tensor's name.
  public var tensor: TensorName
  /// What was found.
  public var verdict: Verdict
  /// Dimensions in the first checkpoint, or in the one that has the tensor.
  public var shape: Shape
  /// The dtypes, where they differ.
  public var dtypes: [String]?
  /// The largest absolute difference of two elements.
  public var maximumDifference: Double?
  /// The largest difference in units in the last place of the second checkpoint's elements, where both have one dtype.
  public var maximumUnits: Double?
  /// The ranks of both changes, where adapters are compared.
  public var ranks: [Int]?
  /// The Frobenius norm of the difference relative to that of the second checkpoint's tensor.
  public var relativeError: Double?
  /// The cosine of the angle between both tensors.
  public var cosine: Double?

  init(_ tensor: TensorName, _ verdict: Verdict, shape: Shape) {
    self.tensor = tensor
    self.verdict = verdict
    self.shape = shape
  }

  /// Whether the tensors count as equal.
  public var passes: Bool { verdict == .identical || verdict == .close }
}

/// How two checkpoints differ.
public struct CompareReport: Sendable, Codable {
  /// Always "compare".
  public var command = "compare"
  /// The program's version.
  public var version = Version.current
  /// One entry for each tensor of either checkpoint.
  public var modules: [TensorComparison]
  /// The Frobenius norm of all differences relative to that of the second checkpoint.
  public var relativeError: Double
  /// Whether every tensor counts as equal.
  public var equal: Bool
  /// What the user should know.
  public var warnings: [String]
}
