public import Adapters
public import Tensors

/// Extracts the difference of two models as a low-rank adapter.
public struct ExtractRequest: Sendable, Codable {
  /// What happens to embeddings that changed.
  public enum Embeddings: String, Sendable, Codable, CaseIterable {
    /// They are factored like other matrices.
    case lowRank = "low-rank"
    /// They are kept in full.
    case full
    /// They are left out.
    case skip
  }

  /// What happens to changed tensors that are no matrices.
  public enum Others: String, Sendable, Codable, CaseIterable {
    /// They are kept in full.
    case full
    /// They are left out.
    case skip
  }

  /// What happens to stacks of experts that changed.
  public enum Experts: String, Sendable, Codable, CaseIterable {
    /// Every expert is factored, all of a stack to the same rank.
    case lowRank = "low-rank"
    /// They are left out.
    case skip
  }

  /// How singular values are found.
  public enum Method: String, Sendable, Codable, CaseIterable {
    /// By a search that stops when the captured energy cannot grow noticeably.
    case randomized
    /// By LAPACK, completely.
    case exact
  }

  /// The model before tuning.
  public var base: String
  /// The model after tuning.
  public var tuned: String
  /// Where the adapter goes.
  public var output: String
  /// How the ranks of factor pairs are chosen.
  public var ranks: RankOptions
  /// The storage dtype of factors; by default that of the tuned tensor.
  public var dtype: DType?
  /// The dialect to write; by default the one that the output's form suggests.
  public var dialect: Dialect?
  /// How singular values are found.
  public var method = Method.randomized
  /// The precision of the arithmetic.
  public var precision = Precision.float32
  /// The energy that may be missing to the best factors, relative to what the best leave behind.
  public var accuracy = 1e-4
  /// The seed of the search.
  public var seed: UInt64 = 0
  /// Which tensors take part.
  public var selection = Selection()
  /// What happens to embeddings.
  public var embeddings = Embeddings.lowRank
  /// What happens to experts that are stacked in one tensor.
  public var experts = Experts.lowRank
  /// What happens to tensors that are no matrices.
  public var others = Others.full
  /// Whether tensors in only one of the two models are left out instead of refused.
  public var allowMissing = false
  /// Whether finite values that the storage dtype cannot hold are accepted.
  public var allowOverflow = false
  /// Whether an existing output is replaced.
  public var force = false
  /// Whether only the plan is made.
  public var dryRun = false
  /// The share of the work to do, whose result is a piece for ``GatherRequest``; `nil` for all of it.
  public var part: Part?

  /// Asks for an extraction.
  ///
  /// - Parameters:
  ///   - base: The model before tuning: a file or folder.
  ///   - tuned: The model after tuning.
  ///   - output: Where the adapter goes.
  ///   - ranks: How the ranks of factor pairs are chosen.
  public init(base: String, tuned: String, output: String, ranks: RankOptions) {
    self.base = base
    self.tuned = tuned
    self.output = output
    self.ranks = ranks
  }
}
