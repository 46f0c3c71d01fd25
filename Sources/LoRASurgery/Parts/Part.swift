public import Tensors

/// One of several shares of an operation's work, each done by a process of its own, on any machine.
///
/// Which work belongs to which part follows from the costs alone, so that the parts need not talk to each other.
public struct Part: Sendable, Hashable {
  /// Which part, counted from 1.
  public let number: Int
  /// How many parts there are.
  public let count: Int

  /// The most parts: several times what job arrays hold (Slurm's `MaxArraySize` is 1001 by default).
  public static let maximumCount = 4096

  /// Names a part.
  ///
  /// - Parameters:
  ///   - number: Which part, counted from 1.
  ///   - count: How many parts there are.
  /// - Throws: `part.form` where there is no such part.
  public init(_ number: Int, of count: Int) throws(SurgeryError) {
    guard count >= 1, count <= Self.maximumCount, number >= 1, number <= count else {
      throw SurgeryError(
        .usage, "part.form", "there is no such part",
        expected: "K/N with K from 1 to N, N at most \(Self.maximumCount)",
        found: "\(number)/\(count)")
    }
    self.number = number
    self.count = count
  }

  /// Reads `K/N`.
  ///
  /// - Parameter text: The number of the part, counted from 1, and the number of parts.
  /// - Throws: `part.form` where the text has another form or there is no such part.
  public init(_ text: String) throws(SurgeryError) {
    let numbers = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard numbers.count == 2, let number = numbers[0], let count = numbers[1] else {
      throw SurgeryError(
        .usage, "part.form", "a part is named by its number and the number of parts",
        expected: "K/N, such as 1/4", found: text)
    }
    try self.init(number, of: count)
  }

  /// The items of a list that are this part's.
  ///
  /// - Parameter costs: The cost of each item, in any unit.
  /// - Returns: Positions of items, ascending; each item belongs to one part.
  /// - Complexity: O(*n* log *n* + *n* · parts).
  public func share(of costs: [Int]) -> [Int] {
    let owners = Self.owners(of: costs, parts: count)
    return costs.indices.filter { owners[$0] == number - 1 }
  }

  /// The part of each item, counted from 0: the costliest item first, each to the part with the least to do (Graham 1969,
  /// doi:10.1137/0117039), so that no part does more than 4/3 of what the best division would give it.
  static func owners(of costs: [Int], parts: Int) -> [Int] {
    var loads = [Int](repeating: 0, count: parts)
    var owners = [Int](repeating: 0, count: costs.count)
    for item in costs.indices.sorted(by: { (costs[$1], $0) < (costs[$0], $1) }) {
      var least = 0
      for part in loads.indices where loads[part] < loads[least] { least = part }
      owners[item] = least
      // An item without cost still counts, so that such items do not all fall to one part.
      loads[least] += max(1, costs[item])
    }
    return owners
  }
}

extension Part: CustomStringConvertible, Codable {
  /// The part as `K/N`.
  public var description: String { "\(number)/\(count)" }

  /// Reads a part from the text `K/N`.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    do { try self.init(try container.decode(String.self)) } catch let error as SurgeryError {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(error)")
    }
  }

  /// Writes the part as the text `K/N`.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
