import Checkpoints
public import LinearAlgebra
public import Tensors

/// Two factors whose order and orientation only the base's shape tells.
///
/// loralib stores neither the class of a layer nor its rank; hand-written code follows its author's taste. Fitting decides
/// (dialects.md, sections 6 and 15).
public struct UnsolvedPair: Update {
  /// Which product of the two, `first` P and `second` Q, is the change.
  public enum Convention: Sendable, Hashable, CaseIterable {
    /// `P · Q`.
    case forward
    /// `(P · Q)ᵀ`: R torch's `A: in x r`, `B: r x out`.
    case forwardTransposed
    /// `Q · P`: loralib's `lora_A: r x in`, `lora_B: out x r`.
    case backward
    /// `(Q · P)ᵀ`: an embedding of loralib.
    case backwardTransposed
  }

  /// The factor named first.
  public var first: Factor
  /// The factor named second.
  public var second: Factor
  /// Whether the layers of loralib may be meant, which has more forms than a plain product.
  public var isLoralib: Bool
  /// What holds where the shapes leave a choice.
  public var convention: Convention?
  /// Whether the module's name is that of an embedding.
  public var isEmbedding: Bool

  /// Describes a pair.
  ///
  /// - Parameters:
  ///   - first: The factor named first: `A`, `lora_A`, `down`.
  ///   - second: The factor named second.
  ///   - isLoralib: Whether the layers of loralib may be meant.
  ///   - convention: What holds where the shapes leave a choice.
  ///   - isEmbedding: Whether the module's name is that of an embedding.
  /// - Throws: `adapter.shape` or `adapter.dtype`.
  public init(
    first: Factor, second: Factor, isLoralib: Bool, convention: Convention?, isEmbedding: Bool
  ) throws(SurgeryError) {
    for factor in [first, second] {
      guard factor.dtype.isFloatingPoint else { throw factor.notFloating }
      guard factor.tensor.info.shape.rank == 2 else {
        throw SurgeryError.adapter(
          "shape", "a factor must be a matrix", file: factor.tensor.source.file.path,
          key: factor.tensor.name.text, expected: "2 dimensions",
          found: "\(factor.tensor.info.shape)")
      }
    }
    self.first = first
    self.second = second
    self.isLoralib = isLoralib
    self.convention = convention
    self.isEmbedding = isEmbedding
  }

  /// LoRA.
  public var algorithm: String { "lora" }
  /// Unknown before fitting; the outer size of loralib's reading.
  public var rows: Int { second.rows }
  /// Unknown before fitting.
  public var columns: Int { first.columns }
  /// The inner size: the smaller where both are possible.
  public var rank: Int? {
    let forward = first.columns == second.rows ? first.columns : nil
    let backward = first.rows % max(second.columns, 1) == 0 ? second.columns : nil
    return [forward, backward].compactMap(\.self).min()
  }
  /// Both factors.
  public var factors: [Factor] { [first, second] }

  /// The conventions that give a matrix of a shape.
  func solutions(rows: Int, columns: Int) -> [Convention] {
    sides(rows: rows, columns: columns).map(\.convention)
  }

  /// The factors of every product that gives a matrix of a shape.
  private func sides(
    rows: Int, columns: Int
  ) -> [(convention: Convention, up: Factor, down: Factor)] {
    Convention.allCases.compactMap { convention in
      let (up, down) =
        switch convention {
        case .forward: (first, second)
        case .forwardTransposed: (second.transposed(), first.transposed())
        case .backward: (second, first)
        case .backwardTransposed: (first.transposed(), second.transposed())
        }
      guard up.columns == down.rows, up.rows == rows, down.columns == columns else { return nil }
      return (convention, up, down)
    }
  }

  /// Solves the pair for a tensor of the base.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    if isLoralib, let fitted = try fittedAsLoralib(to: target) { return fitted }
    let transposed = target.saidTransposed ?? target.knownTransposed ?? false
    let (rows, columns) =
      transposed
      ? (target.storedColumns, target.storedRows) : (target.storedRows, target.storedColumns)
    let possible = sides(rows: rows, columns: columns)
    guard
      let choice = possible.count == 1
        ? possible[0] : possible.first(where: { $0.convention == convention })
    else {
      if possible.isEmpty { throw mismatch(target) }
      throw ambiguous(target)
    }
    return FittedUpdate(
      update: try LowRank(up: choice.up, down: choice.down), isTransposed: transposed)
  }

  private func mismatch(_ target: FittingTarget) -> SurgeryError {
    .adapter(
      "shape", "no product of the factors fits the base",
      expected: "\(target.shape) of base tensor \(target.name.text)",
      found: "factors \(first.tensor.info.shape) and \(second.tensor.info.shape)",
      hint: "--pair names the factors of a tensor, --enable-lora the parts of a fused one")
  }

  private func ambiguous(_ target: FittingTarget) -> SurgeryError {
    .adapter(
      "ambiguous-orientation", "the shapes leave open which product of the factors is meant",
      expected: "a tensor that is not square beside \(target.name.text) \(target.shape)",
      found: "factors \(first.tensor.info.shape) and \(second.tensor.info.shape)",
      hint: "--from peft, loralib or r-torch says how the factors lie")
  }

  /// The layers of loralib: Linear, Embedding, MergedLinear, ConvLoRA.
  private func fittedAsLoralib(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate? {
    let rank = second.columns
    guard rank > 0, first.rows % rank == 0 else { return nil }
    if target.shape.rank > 2 { return try convolution(target) }
    if first.rows > rank { return try merged(target, rank: rank) }
    let (rows, columns) = (second.rows, first.columns)
    let straight = rows == target.storedRows && columns == target.storedColumns
    let turned = rows == target.storedColumns && columns == target.storedRows
    guard straight || turned else { return nil }
    if isEmbedding, target.saidTransposed == nil {
      if straight && turned { throw ambiguous(target) }
      if turned {
        return FittedUpdate(
          update: try LowRank(
            up: first.transposed(), down: second.transposed(), form: .embedding),
          isTransposed: false)
      }
    }
    return FittedUpdate(
      update: try LowRank(up: second, down: first),
      isTransposed: try target.isTransposed(rows: rows, columns: columns))
  }

  private func convolution(_ target: FittingTarget) throws(SurgeryError) -> FittedUpdate? {
    guard let kernel = target.shape.dimensions.last, kernel > 0,
      first.rows == second.columns, second.rows == target.storedRows * kernel,
      first.columns * kernel == target.storedColumns
    else { return nil }
    // Alpha is divided by the author's rank, which the factors have times the kernel's size.
    return FittedUpdate(
      update: ReinterpretedLowRank(
        try LowRank(up: second, down: first), rowsPerOutput: kernel), isTransposed: false,
      scaleFactor: Double(kernel))
  }

  private func merged(_ target: FittingTarget, rank: Int) throws(SurgeryError) -> FittedUpdate? {
    let count = first.rows / rank
    if let pieces = target.pieces, Set(pieces).count > 1 {
      return try merged(target, rank: rank, count: count, pieces: pieces)
    }
    guard second.rows % count == 0 else { return nil }
    let height = second.rows / count
    let outputs: Int
    if first.columns == target.storedColumns, target.storedRows % height == 0 {
      outputs = target.storedRows
    } else if first.columns == target.storedRows, target.storedColumns % height == 0 {
      outputs = target.storedColumns
    } else {
      return nil
    }
    let total = outputs / height
    guard total >= count else { return nil }
    let enabled: [Bool]
    if let said = target.enabledParts {
      guard said.count == total, said.count(where: \.self) == count else {
        throw SurgeryError.adapter(
          "need-enable-lora", "the enabled parts do not fit the factors",
          expected: "\(count) of \(total, counting: "part")", found: "\(said)",
          hint: "--enable-lora lists which parts are enabled")
      }
      enabled = said
    } else if count == total {
      enabled = [Bool](repeating: true, count: total)
    } else {
      throw SurgeryError.adapter(
        "need-enable-lora", "the file does not say which parts of the fused projection it changes",
        expected: "\(count) of \(total, counting: "part") of \(target.name.text) \(target.shape)",
        found: "factors \(first.tensor.info.shape) and \(second.tensor.info.shape)",
        hint: "--enable-lora true,false,true (the parts in order) says it")
    }
    var parts: [(rows: Range<Int>, update: LowRank)] = []
    for (place, index) in enabled.indices.filter({ enabled[$0] }).enumerated() {
      parts.append(
        (
          (index * height)..<((index + 1) * height),
          try LowRank(
            up: second.rows((place * height)..<((place + 1) * height)),
            down: first.rows((place * rank)..<((place + 1) * rank)))
        ))
    }
    let update = PartedLowRank(parts: parts, rows: outputs)
    return FittedUpdate(
      update: update,
      isTransposed: try target.isTransposed(rows: outputs, columns: first.columns))
  }

  /// Parts of unequal height: litgpt's queries, keys and values where heads are grouped.
  private func merged(
    _ target: FittingTarget, rank: Int, count: Int, pieces: [Int]
  ) throws(SurgeryError) -> FittedUpdate? {
    guard first.columns == target.storedColumns else { return nil }
    let enabled =
      target.enabledParts ?? [Bool](repeating: count == pieces.count, count: pieces.count)
    guard enabled.count == pieces.count, enabled.count(where: \.self) == count,
      zip(enabled, pieces).reduce(0, { $0 + ($1.0 ? $1.1 : 0) }) == second.rows
    else {
      throw SurgeryError.adapter(
        "need-enable-lora",
        target.enabledParts == nil
          ? "the file does not say which parts of the fused projection it changes"
          : "the enabled parts do not fit the factors",
        expected: "\(count) of \(pieces.count) parts of \(pieces) rows",
        found: "\(second.rows, counting: "row") of \(second.tensor.name.text)",
        hint: "--enable-lora true,false,true (the parts in order) says which parts are enabled")
    }
    var parts: [(rows: Range<Int>, update: LowRank)] = []
    var (place, taken, row) = (0, 0, 0)
    for (isEnabled, height) in zip(enabled, pieces) {
      if isEnabled {
        let pair = try LowRank(
          up: second.rows(taken..<(taken + height)),
          down: first.rows((place * rank)..<((place + 1) * rank)))
        parts.append((row..<(row + height), pair))
        place += 1
        taken += height
      }
      row += height
    }
    return FittedUpdate(
      update: PartedLowRank(parts: parts, rows: target.storedRows), isTransposed: false)
  }

  /// Never called on a pair that was fitted.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    throw SurgeryError.adapter(
      "ambiguous-orientation", "the pair's orientation is only known from the base",
      key: first.tensor.name.text, hint: "--base gives the model that decides")
  }
}
