public import Tensors
public import YAML

/// A step of a recipe with its fields filled in: one command with its options and operands.
public struct RecipeCall: Sendable {
  /// The command.
  public var command: String
  /// Options and operands as they stand in the recipe.
  public var fields: [Recipe.Field]
  /// Options that count where the command has them and the fields do not.
  public var defaults: [Recipe.Field]
  /// Where the job stands.
  public var mark: YAMLNode.Mark
}

/// What a call asks for, before it is made into a request.
///
/// Making requests costs more than all else in a batch whose jobs are finished, so it waits until one is needed.
public struct BatchCall: Sendable {
  /// Words that say what is asked for: equal words ask for the same bytes.
  public var words: [String]
  /// The most threads that the job takes.
  public var jobs: Int?
  /// The most memory that the job's buffers take, in bytes.
  public var memory: Int?
  /// Makes the request; throws what the words' meaning throws.
  public var request: @Sendable () throws(SurgeryError) -> any BatchOperation

  /// Collects what a call asks for.
  public init(
    words: [String], jobs: Int? = nil, memory: Int? = nil,
    request: @escaping @Sendable () throws(SurgeryError) -> any BatchOperation
  ) {
    self.words = words
    self.jobs = jobs
    self.memory = memory
    self.request = request
  }
}
