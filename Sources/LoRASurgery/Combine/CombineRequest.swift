public import Adapters
public import Tensors

/// Makes one adapter of several.
public struct CombineRequest: Sendable, Codable {
  /// How the adapters are put together; the arithmetic is that of PEFT (peft:src/peft/tuners/lora/model.py,
  /// `add_weighted_adapter`; peft:src/peft/utils/merge_utils.py).
  public enum Method: String, Sendable, Codable, CaseIterable {
    /// Weighted sums of the factors: cheap, of equal rank, but with cross terms between the adapters.
    case linear
    /// The weighted sum of the changes, exactly: the ranks add up.
    case concat
    /// The best factors of a rank for the weighted sum of the changes.
    case svd
    /// TIES on the factors: trimmed by magnitude, signs elected, disjoint means (Yadav et al. 2023, arXiv:2306.01708).
    case ties
    /// DARE on the factors: elements dropped at random, the others scaled up (Yu et al. 2023, arXiv:2311.03099).
    case dareLinear = "dare-linear"
    /// DARE's dropping, then the election of TIES, on the factors.
    case dareTies = "dare-ties"
    /// The largest elements of the factors.
    case magnitudePrune = "magnitude-prune"
    /// TIES on the changes themselves, factored anew.
    case tiesSVD = "ties-svd"
    /// DARE on the changes themselves, factored anew.
    case dareLinearSVD = "dare-linear-svd"
    /// DARE and election on the changes themselves, factored anew.
    case dareTiesSVD = "dare-ties-svd"
    /// The largest elements of the changes themselves, factored anew.
    case magnitudePruneSVD = "magnitude-prune-svd"
  }

  /// How the sign of an element is elected.
  public enum MajoritySign: String, Sendable, Codable, CaseIterable {
    /// By the sum of the values.
    case total
    /// By the number of values of each sign.
    case frequency
  }

  /// The adapters with their weights; the first one's dialect and dtypes are those of the result.
  public var adapters: [WeightedAdapter]
  /// Where the result goes.
  public var output: String
  /// How the adapters are put together.
  public var method: Method
  /// The share of elements that pruning keeps, in (0, 1].
  public var density: Double?
  /// How signs are elected.
  public var majoritySign = MajoritySign.total
  /// The seed of what is dropped at random; the same seed gives the same bytes.
  public var seed: UInt64 = 0
  /// The ranks of what is factored anew; by default the largest rank of all adapters.
  public var ranks = RankOptions()
  /// The dialect to write; by default that of the first adapter.
  public var dialect: Dialect?
  /// The storage dtype of factors; by default that of the first adapter that has the module.
  public var dtype: DType?
  /// What the user says about the adapters.
  public var adapterOptions = AdapterOptions()
  /// Which modules take part, by the name of the tensor that they change; others are left out.
  public var selection = Selection()
  /// Whether finite values that the storage dtype cannot hold are accepted.
  public var allowOverflow = false
  /// Whether an existing output is replaced.
  public var force = false
  /// Whether only the plan is made.
  public var dryRun = false

  /// Asks for a combination.
  ///
  /// - Parameters:
  ///   - adapters: The adapters with their weights.
  ///   - output: Where the result goes.
  ///   - method: How they are put together.
  public init(adapters: [WeightedAdapter], output: String, method: Method) {
    self.adapters = adapters
    self.output = output
    self.method = method
  }
}

extension CombineRequest.Method {
  /// What is done to each element of the matrices that are put together.
  enum Arithmetic: Sendable {
    case sum, ties, dareSum, dareTies, prunedSum
  }

  var arithmetic: Arithmetic {
    switch self {
    case .linear, .concat, .svd: .sum
    case .ties, .tiesSVD: .ties
    case .dareLinear, .dareLinearSVD: .dareSum
    case .dareTies, .dareTiesSVD: .dareTies
    case .magnitudePrune, .magnitudePruneSVD: .prunedSum
    }
  }

  /// Whether the method works on the factors one by one, which then must have the same rank.
  var worksOnFactors: Bool {
    switch self {
    case .linear, .ties, .dareLinear, .dareTies, .magnitudePrune: true
    case .concat, .svd, .tiesSVD, .dareLinearSVD, .dareTiesSVD, .magnitudePruneSVD: false
    }
  }

  /// Whether the method needs a density.
  var prunes: Bool { if case .sum = arithmetic { false } else { true } }
}
