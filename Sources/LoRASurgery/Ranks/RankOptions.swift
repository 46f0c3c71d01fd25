public import Tensors

/// What the user says about the ranks of low-rank factors; every field is an option of the command of the same name.
///
/// `extract`, `resize`, `combine` and `convert --as lora` share it. It is checked and compiled by `choice()`.
public struct RankOptions: Sendable, Codable, Hashable {
  /// The rank of every tensor.
  public var rank: Int?
  /// The rank of kernels larger than 1 x 1; beside a rule that reads ranks off spectra, the most that they get.
  public var convRank: Int?
  /// The least rank that captures this share of a tensor's energy.
  public var energy: Double?
  /// The least rank that leaves at most this of a tensor's norm, relatively.
  public var maxError: Double?
  /// One budget for all tensors, spent where a rank buys the most energy.
  public var budget: Budget?
  /// The singular values above the noise (Gavish & Donoho 2014, doi:10.1109/TIT.2014.2323359).
  public var noiseFloor = false
  /// The singular values above the largest one divided by this; kohya's `sv_ratio`.
  public var svRatio: Double?
  /// The least rank with this share of the Frobenius norm; kohya's `sv_fro`, the square root of an energy.
  public var svFro: Double?
  /// The least rank whose values sum up to this share of all; kohya's `sv_cumulative`.
  public var svCumulative: Double?
  /// The least rank that a tensor gets; 1 by default, 0 under a budget or a noise floor.
  public var minRank: Int?
  /// The largest rank that a tensor gets.
  public var maxRank: Int?
  /// Ranks of tensors by name; the first that matches wins over everything else.
  public var rankFor: [NamedRank] = []

  /// Nothing said.
  public init() {}

  /// A rank for all tensors.
  public init(rank: Int) { self.rank = rank }

  /// The size that all factors together may have.
  public enum Budget: Sendable, Hashable {
    /// Bytes of factors, in the dtype that they are stored in.
    case bytes(Int)
    /// A share of the parameters of what the factors are made from, in (0, 1].
    case share(Double)
  }

  /// A rank for the tensors whose name matches an expression.
  public struct NamedRank: Sendable, Hashable {
    /// A regular expression, matched anywhere in the tensor's name.
    public var pattern: String
    /// The rank; 0 leaves the tensors out.
    public var rank: Int

    /// Pairs an expression with a rank.
    public init(pattern: String, rank: Int) {
      self.pattern = pattern
      self.rank = rank
    }
  }
}

extension RankOptions.Budget: Codable {
  /// Reads `30MB` or `1%`.
  ///
  /// - Parameter text: A size, or a percentage of parameters.
  /// - Throws: `rank.range` where the text is neither.
  public init(_ text: String) throws(SurgeryError) {
    if text.hasSuffix("%"), let percent = Double(text.dropLast()), percent > 0, percent <= 100 {
      self = .share(percent / 100)
    } else if let bytes = SizeText.bytes(text) {
      self = .bytes(bytes)
    } else {
      throw .rankRange("budget", expected: "a size as 30MB or a share as 1%", found: text)
    }
  }

  /// The text that ``init(_:)`` reads.
  public var text: String {
    switch self {
    case .bytes(let count): "\(count)"
    case .share(let share): "\(share * 100)%"
    }
  }

  /// Decodes the text.
  public init(from decoder: any Decoder) throws {
    try self.init(try decoder.singleValueContainer().decode(String.self))
  }

  /// Encodes the text.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text)
  }
}

extension RankOptions.NamedRank: Codable {
  /// Reads `REGEX=N`, split at the last equals sign.
  ///
  /// - Parameter text: The expression and the rank.
  /// - Throws: `rank.range` where the text has another form.
  public init(_ text: String) throws(SurgeryError) {
    guard let equals = text.lastIndex(of: "="), equals != text.startIndex,
      let rank = Int(text[text.index(after: equals)...]), rank >= 0
    else { throw .rankRange("rank-for", expected: "REGEX=N", found: text) }
    self.init(pattern: String(text[..<equals]), rank: rank)
  }

  /// Decodes the text.
  public init(from decoder: any Decoder) throws {
    try self.init(try decoder.singleValueContainer().decode(String.self))
  }

  /// Encodes the text.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode("\(pattern)=\(rank)")
  }
}

extension SurgeryError {
  /// The error for a rank option with a value that it cannot have.
  static func rankRange(_ option: String, expected: String, found: String) -> Self {
    Self(
      .usage, "rank.range", "--\(option) has a value that it cannot take", expected: expected,
      found: found)
  }
}
