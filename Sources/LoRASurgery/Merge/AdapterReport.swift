/// What became of one adapter of a merge.
public struct AdapterReport: Sendable, Codable {
  /// The path as the user named it.
  public var path: String
  /// The weight that it was applied with.
  public var weight: Double
  /// Its dialect.
  public var dialect: String
  /// Modules that it has, replaced tensors included.
  public var modules: Int
  /// Modules that were applied; one that changes several tensors counts for each.
  public var applied: Int
  /// Modules that were left out because the selection leaves out their tensors.
  public var excluded: Int
  /// Modules that match nothing in the model.
  public var unmatched: [String]
}
