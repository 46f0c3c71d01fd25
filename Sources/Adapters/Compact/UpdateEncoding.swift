import Checkpoints
import Tensors

extension CompactEncoder {
  /// The description of an update: its kind, its views and its numbers.
  ///
  /// - Parameter update: Any update of this program.
  /// - Returns: A JSON object.
  /// - Throws: `adapter.inexpressible` for a kind that the format does not know.
  mutating func encode(_ update: any Update) throws(SurgeryError) -> JSONValue {
    switch update {
    case let update as LowRank: return try lowRank(update)
    case let update as WeightedLowRank: return try weighted(update)
    case let update as Hadamard:
      return .kind(
        "hadamard",
        [("first", try lowRank(update.first)), ("second", try lowRank(update.second))])
    case let update as GeneralisedLowRank:
      return .kind(
        "generalised", [("pair", try lowRank(update.pair)), ("mixing", try lowRank(update.mixing))])
    case let update as BaseHadamard:
      return .kind("base-hadamard", [("factor", try lowRank(update.factor))])
    case let update as Kronecker:
      return .kind(
        "kronecker", [("first", try term(update.first)), ("second", try term(update.second))])
    case let update as FullDifference:
      return .kind("difference", [("difference", try view(update.difference))])
    case let update as PatternedDifference: return try patterned(update)
    case let update as Decomposed:
      return try decomposed(update, inner: try encode(update.inner))
    case let update as DiagonalScale:
      return .kind(
        "diagonal",
        [
          ("values", try view(update.values)), ("offset", .bool(update.isOffset)),
          ("axis", .string(update.axis == .outputs ? "outputs" : "inputs")),
        ])
    case let update as Orthogonal: return try orthogonal(update)
    case let update as Reflections:
      return .kind("reflections", [("directions", try view(update.directions))])
    case let update as RowReplacement:
      return .kind(
        "rows",
        [
          ("values", try view(update.values)),
          ("indices", .array(update.indices.map { .integer($0) })),
        ])
    case let update as StackedLowRank: return try stacked(update)
    case let update as TiledLowRank: return try tiled(update)
    case let update as VectorBank:
      return .kind(
        "vector-bank",
        [
          ("bank", try view(update.bank)), ("down", try choice(update.down)),
          ("up", try choice(update.up)), ("rank", .integer(update.rank ?? 1)),
        ])
    case let update as Butterfly: return try butterfly(update)
    case let update as PartedLowRank: return try parted(update)
    case let update as ReinterpretedLowRank:
      return .kind(
        "reinterpreted",
        [
          ("factors", try lowRank(update.factors2D)),
          ("rows_per_output", .integer(update.rowsPerOutput)),
        ])
    case let update as RotaryOrdered:
      var members = [("pair", try lowRank(update.pair)), ("rotated", .bool(update.isRotated))]
      if let magnitude = update.magnitude { members.append(("magnitude", try view(magnitude))) }
      return .kind("rotary-ordered", members)
    case let update as HeadPermuted:
      return .kind(
        "head-permuted",
        [("factors", try lowRank(update.inner)), ("keys", .bool(update.isKey))])
    default:
      throw SurgeryError.inexpressible(
        "an update of kind \(update.algorithm)", in: .compact, update.algorithm)
    }
  }

  /// A low-rank update; its factors may have been replaced by views of a quantised tensor.
  mutating func lowRank(
    _ update: LowRank, up: JSONValue? = nil, down: JSONValue? = nil
  ) throws(SurgeryError) -> JSONValue {
    var members: [(String, JSONValue)] = []
    if let down {
      members.append(("down", down))
    } else {
      members.append(("down", try view(update.down)))
    }
    if let up { members.append(("up", up)) } else { members.append(("up", try view(update.up))) }
    if let core = update.core { members.append(("core", try view(core))) }
    switch update.form {
    case .linear: break
    case .embedding: members.append(("form", .string("embedding")))
    case .convolution(let kernel):
      members.append(("form", .string("convolution")))
      members.append(("kernel", .array(kernel.map { .integer($0) })))
    }
    return .kind("low-rank", members)
  }

  /// DoRA around an update that has been described.
  mutating func decomposed(
    _ update: Decomposed, inner: JSONValue
  ) throws(SurgeryError) -> JSONValue {
    var members: [(String, JSONValue)] = [
      ("inner", inner), ("magnitude", try view(update.magnitude)),
      ("convention", .string(update.convention == .peft ? "peft" : "lycoris")),
    ]
    switch update.axis {
    case .outputs: members.append(("axis", .string("outputs")))
    case .inputs(let size):
      members += [("axis", .string("inputs")), ("kernel_size", .integer(size))]
    }
    return .kind("decomposed", members)
  }

  private mutating func weighted(_ update: WeightedLowRank) throws(SurgeryError) -> JSONValue {
    var members: [(String, JSONValue)] = [
      ("algorithm", .string(update.algorithm)), ("up", try view(update.up)),
      ("down", try view(update.down)),
    ]
    if let weights = update.outputs { members.append(("outputs", try view(weights))) }
    if let weights = update.ranks { members.append(("ranks", try view(weights))) }
    if let weights = update.inputs { members.append(("inputs", try view(weights))) }
    if let weight = update.boundary { members.append(("boundary", try view(weight))) }
    return .kind("weighted-low-rank", members)
  }

  private mutating func term(_ term: Kronecker.Term) throws(SurgeryError) -> JSONValue {
    switch term {
    case .full(let factor): .kind("full", [("matrix", try view(factor))])
    case .lowRank(let product): try lowRank(product)
    }
  }

  private mutating func patterned(_ update: PatternedDifference) throws(SurgeryError) -> JSONValue {
    var members: [(String, JSONValue)] = [
      ("algorithm", .string(update.algorithm)), ("values", try view(update.values)),
    ]
    switch update.layout {
    case .circulant(let rows, let columns, let size):
      members += [
        ("layout", .string("circulant")),
        ("blocks", .array([.integer(rows), .integer(columns), .integer(size)])),
      ]
    case .sparse(let rows, let columns):
      members += [
        ("layout", .string("sparse")), ("rows", try view(rows)), ("columns", try view(columns)),
      ]
    case .tiled:
      members.append(("layout", .string("tiled")))
      if update.repeatsOutputs { members.append(("repeated", .bool(true))) }
    }
    return .kind("patterned", members)
  }

  private mutating func orthogonal(_ update: Orthogonal) throws(SurgeryError) -> JSONValue {
    var members: [(String, JSONValue)] = [
      ("blocks", try view(update.blocks)), ("block_size", .integer(update.blockSize)),
      ("side", .string(update.side == .inputs ? "inputs" : "outputs")),
      ("storage", .string(update.storage == .triangle ? "triangle" : "difference")),
    ]
    switch update.map {
    case .neumann(let terms):
      members += [("map", .string("neumann")), ("terms", .integer(terms))]
    case .minusPlus: members.append(("map", .string("minus-plus")))
    case .plusMinus: members.append(("map", .string("plus-minus")))
    }
    switch update.limit {
    case .none: break
    case .eachBlock(let limit): members.append(("block_limit", .double(limit)))
    case .allBlocks(let limit): members.append(("total_limit", .double(limit)))
    }
    if let rescale = update.rescale { members.append(("rescale", try view(rescale))) }
    return .kind("orthogonal", members)
  }

  private mutating func stacked(_ update: StackedLowRank) throws(SurgeryError) -> JSONValue {
    let square =
      switch update.square {
      case .straight: "straight"
      case .transposed: "transposed"
      case .asMarked: "marked"
      case .unknown: "unknown"
      }
    return .kind(
      "stacked",
      [
        ("up", try view(update.up)), ("down", try view(update.down)),
        ("rank", .integer(update.rank ?? 1)), ("square", .string(square)),
        ("expert_major", .bool(update.isExpertMajor)),
      ])
  }

  private mutating func parted(_ update: PartedLowRank) throws(SurgeryError) -> JSONValue {
    var parts: [JSONValue] = []
    for part in update.parts {
      parts.append(
        .object([
          .init(
            "rows", .array([.integer(part.rows.lowerBound), .integer(part.rows.upperBound)])),
          .init("update", try lowRank(part.update)),
        ]))
    }
    return .kind("parted", [("parts", .array(parts)), ("rows", .integer(update.rows))])
  }

  private mutating func tiled(_ update: TiledLowRank) throws(SurgeryError) -> JSONValue {
    var tiles: [JSONValue] = []
    for tile in update.tiles {
      tiles.append(
        .object([
          .init("rows", .range(tile.rows)), .init("columns", .range(tile.columns)),
          .init("update", try lowRank(tile.update)),
        ]))
    }
    return .kind(
      "tiled",
      [
        ("algorithm", .string(update.algorithm)), ("rows", .integer(update.rows)),
        ("columns", .integer(update.columns)), ("rank", .integer(update.rank ?? 1)),
        ("tiles", .array(tiles)),
      ])
  }

  private mutating func choice(_ choice: VectorBank.Choice) throws(SurgeryError) -> JSONValue {
    switch choice {
    case .logits(let logits, let most):
      .kind("logits", [("logits", try view(logits)), ("most", .integer(most))])
    case .chosen(let indices, let weights):
      .kind("chosen", [("indices", try view(indices)), ("weights", try view(weights))])
    }
  }

  private mutating func butterfly(_ update: Butterfly) throws(SurgeryError) -> JSONValue {
    var members: [(String, JSONValue)] = [
      ("blocks", try view(update.blocks)), ("stages", .integer(update.stages)),
      ("block_size", .integer(update.blockSize)),
    ]
    switch update.convention {
    case .peft: members.append(("convention", .string("peft")))
    case .lycoris(let limit):
      members.append(("convention", .string("lycoris")))
      if let limit { members.append(("total_limit", .double(limit))) }
    }
    if let rescale = update.rescale { members.append(("rescale", try view(rescale))) }
    return .kind("butterfly", members)
  }
}

extension JSONValue {
  /// Both ends of a range.
  fileprivate static func range(_ range: Range<Int>) -> JSONValue {
    .array([.integer(range.lowerBound), .integer(range.upperBound)])
  }

  /// An object with its kind.
  fileprivate static func kind(_ name: String, _ members: [(String, JSONValue)]) -> JSONValue {
    .object([Member("kind", .string(name))] + members.map { Member($0.0, $0.1) })
  }
}
