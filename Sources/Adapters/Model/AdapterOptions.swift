/// How alpha and rank give a scale.
public enum RankScale: String, Sendable, Hashable, Codable, CaseIterable {
  /// `alpha / rank`.
  case alphaOverRank = "alpha/r"
  /// `alpha / √rank`: rsLoRA (Kalajdzievski 2023, arXiv:2312.03732).
  case alphaOverRootRank = "alpha/sqrt(r)"
  /// Alpha itself.
  case none

  /// The scale of a module.
  ///
  /// - Parameters:
  ///   - alpha: The stored or given alpha.
  ///   - rank: The rank that the rule divides by; positive.
  /// - Returns: The scale.
  public func scale(alpha: Double, rank: Int) -> Double {
    switch self {
    case .alphaOverRank: alpha / Double(rank)
    case .alphaOverRootRank: alpha / Double(rank).squareRoot()
    case .none: alpha
    }
  }
}

/// What the user says about an adapter that its files do not say, or say wrongly.
public struct AdapterOptions: Sendable, Hashable, Codable {
  /// A value for the modules that a name or pattern matches, or for all.
  public struct Rule<Value: Sendable & Hashable & Codable>: Sendable, Hashable, Codable {
    /// A module's name, the end of one from a dot on, or a regular expression for such; `nil` for every module.
    public var module: String?
    /// The value.
    public var value: Value

    /// Creates a rule.
    public init(module: String? = nil, value: Value) {
      self.module = module
      self.value = value
    }
  }

  /// The names of two factors and of the tensor that they change; `{}` stands for a module's name.
  public struct Pair: Sendable, Hashable, Codable {
    /// Name or template of the first factor.
    public var down: String
    /// Name or template of the second factor.
    public var up: String
    /// Name or template of the base's tensor.
    public var tensor: String

    /// Creates a pair; `--pair DOWN,UP=TENSOR`.
    public init(down: String, up: String, tensor: String) {
      self.down = down
      self.up = up
      self.tensor = tensor
    }
  }

  /// A renaming of adapter modules: what a pattern matches becomes the replacement.
  public struct Renaming: Sendable, Hashable, Codable {
    /// A regular expression, matched anywhere in the module's name.
    public var pattern: String
    /// Plain text that takes the place of every match.
    public var replacement: String

    /// Creates a renaming; `--map 's/PATTERN/REPLACEMENT/'`.
    public init(pattern: String, replacement: String) {
      self.pattern = pattern
      self.replacement = replacement
    }
  }

  /// The dialect, where it is not to be detected.
  public var dialect: Dialect?
  /// Alphas; the first rule that matches wins, rules for a module before the rule for all.
  public var alphas: [Rule<Double>] = []
  /// Final scales, which win over alphas.
  public var scales: [Rule<Double>] = []
  /// How alpha and rank give the scale, where the file's own rule is not to be used.
  public var rankScale: RankScale?
  /// Whether targets are stored `in x out`.
  public var fanInFanOut: [Rule<Bool>] = []
  /// Which parts of loralib's MergedLinear are enabled.
  public var enabledParts: [Rule<[Bool]>] = []
  /// Pairs of factors named by the user.
  public var pairs: [Pair] = []
  /// Renamings of modules before they are looked for in the base.
  public var renamings: [Renaming] = []
  /// Whether adapter tensors that match nothing in the base are only reported.
  public var allowsUnmatched = false
  /// Whether a base is accepted that is not the one whose fingerprint the adapter has.
  public var allowsOtherBase = false
  /// Whether a module with a tied partner gets a tensor of its own, instead of changing the shared one.
  public var untiesEmbeddings = false

  /// The model that the adapter was trained on, where its initialisation had changed the base (PiSSA, OLoRA, CorDA, …).
  public var residualBase: String?

  /// Nothing said.
  public init() {}

  /// Reads options of which any may be absent.
  ///
  /// - Parameter decoder: Where they are read from.
  /// - Throws: What decoding throws for a field of a wrong type.
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    dialect = try fields.decodeIfPresent(Dialect.self, forKey: .dialect)
    alphas = try fields.decodeIfPresent([Rule<Double>].self, forKey: .alphas) ?? []
    scales = try fields.decodeIfPresent([Rule<Double>].self, forKey: .scales) ?? []
    rankScale = try fields.decodeIfPresent(RankScale.self, forKey: .rankScale)
    fanInFanOut = try fields.decodeIfPresent([Rule<Bool>].self, forKey: .fanInFanOut) ?? []
    enabledParts = try fields.decodeIfPresent([Rule<[Bool]>].self, forKey: .enabledParts) ?? []
    pairs = try fields.decodeIfPresent([Pair].self, forKey: .pairs) ?? []
    renamings = try fields.decodeIfPresent([Renaming].self, forKey: .renamings) ?? []
    allowsUnmatched = try fields.decodeIfPresent(Bool.self, forKey: .allowsUnmatched) ?? false
    allowsOtherBase = try fields.decodeIfPresent(Bool.self, forKey: .allowsOtherBase) ?? false
    residualBase = try fields.decodeIfPresent(String.self, forKey: .residualBase)
    untiesEmbeddings = try fields.decodeIfPresent(Bool.self, forKey: .untiesEmbeddings) ?? false
  }
}
