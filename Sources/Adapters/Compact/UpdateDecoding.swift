import Checkpoints
import Tensors

extension CompactDecoder {
  /// How deep updates may lie in one another: DoRA around a product is two.
  private static let maximumDepth = 4

  /// An update from its description.
  ///
  /// - Throws: `lra.adapter`, `lra.unknown`, and what the update's own checks throw.
  func update(_ json: JSONValue, depth: Int = 0) throws(SurgeryError) -> any Update {
    guard depth < Self.maximumDepth else { throw wrong("updates are nested too deep") }
    switch try text(json, "kind") {
    case "low-rank": return try lowRank(json)
    case "weighted-low-rank": return try weighted(json)
    case "hadamard":
      return try Hadamard(
        lowRank(member(json, "first")), lowRank(member(json, "second")))
    case "generalised":
      return try GeneralisedLowRank(
        lowRank(member(json, "pair")), mixing: lowRank(member(json, "mixing")))
    case "base-hadamard": return BaseHadamard(try lowRank(member(json, "factor")))
    case "kronecker":
      return try Kronecker(term(member(json, "first")), term(member(json, "second")))
    case "difference": return try FullDifference(view(json, "difference"))
    case "patterned": return try patterned(json)
    case "decomposed": return try decomposed(json, depth: depth)
    case "diagonal":
      let axis = try text(json, "axis")
      guard axis == "outputs" || axis == "inputs" else { throw unknown("an axis", axis) }
      return try DiagonalScale(
        view(json, "values"), axis: axis == "outputs" ? .outputs : .inputs(kernelSize: 1),
        isOffset: flag(json, "offset"))
    case "orthogonal": return try orthogonal(json)
    case "reflections": return try Reflections(view(json, "directions"))
    case "rows":
      var indices: [Int] = []
      for index in try list(json, "indices") { indices.append(try integer(index, "index")) }
      return try RowReplacement(view(json, "values"), indices: indices)
    case "stacked": return try stacked(json)
    case "tiled": return try tiled(json)
    case "vector-bank":
      let bank = try view(json, "bank")
      return try VectorBank(
        bank: bank, down: choice(member(json, "down"), bank),
        up: choice(member(json, "up"), bank), rank: integer(json["rank"], "rank", from: 1))
    case "butterfly": return try butterfly(json)
    case "parted": return try parted(json)
    case "reinterpreted":
      let factors = try lowRank(member(json, "factors"))
      let height = try integer(json["rows_per_output"], "rows_per_output", from: 1)
      guard factors.rows % height == 0, factors.up.columns % height == 0 else {
        throw wrong("rows_per_output does not divide the factors", found: "\(height)")
      }
      return ReinterpretedLowRank(factors, rowsPerOutput: height)
    case "rotary-ordered":
      return try RotaryOrdered(
        lowRank(member(json, "pair")), magnitude: viewIfPresent(json, "magnitude"),
        isRotated: flag(json, "rotated"))
    case "head-permuted":
      return HeadPermuted(try lowRank(member(json, "factors")), isKey: try flag(json, "keys"))
    case let other: throw unknown("a kind of update", other)
    }
  }

  private func lowRank(_ json: JSONValue) throws(SurgeryError) -> LowRank {
    let (up, down) = (try view(json, "up"), try view(json, "down"))
    var form = LowRank.Form.linear
    if json["form"] != nil {
      switch try text(json, "form") {
      case "embedding": form = .embedding
      case "convolution": form = .convolution(kernel: try kernel(json, of: down))
      case let other: throw unknown("a form of factors", other)
      }
    }
    let update = try LowRank(up: up, down: down, core: viewIfPresent(json, "core"), form: form)
    guard update.columns < Self.largest else { throw wrong("an update is larger than any tensor") }
    return update
  }

  private func kernel(_ json: JSONValue, of down: Factor) throws(SurgeryError) -> [Int] {
    var kernel: [Int] = []
    var product = 1
    for size in try list(json, "kernel").prefix(4) {
      let size = try integer(size, "kernel", from: 1)
      kernel.append(size)
      let (next, overflow) = product.multipliedReportingOverflow(by: size)
      guard !overflow else { throw wrong("a kernel is too large") }
      product = next
    }
    guard kernel.count <= 3, json["core"] != nil || down.columns % product == 0 else {
      throw wrong("a kernel does not fit its factor", found: "\(kernel)")
    }
    return kernel
  }

  private func term(_ json: JSONValue) throws(SurgeryError) -> Kronecker.Term {
    try text(json, "kind") == "full" ? .full(view(json, "matrix")) : .lowRank(lowRank(json))
  }

  private func weighted(_ json: JSONValue) throws(SurgeryError) -> WeightedLowRank {
    try WeightedLowRank(
      algorithm: text(json, "algorithm"), up: view(json, "up"), down: view(json, "down"),
      outputs: viewIfPresent(json, "outputs"), ranks: viewIfPresent(json, "ranks"),
      inputs: viewIfPresent(json, "inputs"), boundary: viewIfPresent(json, "boundary"))
  }

  private func patterned(_ json: JSONValue) throws(SurgeryError) -> PatternedDifference {
    let values = try view(json, "values")
    let layout: PatternedDifference.Layout
    switch try text(json, "layout") {
    case "circulant":
      let blocks = try list(json, "blocks")
      var sizes: [Int] = []
      for block in blocks.prefix(3) { sizes.append(try integer(block, "blocks", from: 1)) }
      guard let shape = Shape(sizes), sizes.count == 3, shape.elementCount == values.count else {
        throw wrong("the blocks do not make up the values", found: "\(sizes)")
      }
      layout = .circulant(blockRows: sizes[0], blockColumns: sizes[1], size: sizes[2])
    case "sparse":
      let (rows, columns) = (try view(json, "rows"), try view(json, "columns"))
      guard rows.count == values.count, columns.count == values.count else {
        throw wrong("places and values differ in number")
      }
      layout = .sparse(rows: rows, columns: columns)
    case "tiled": layout = .tiled
    case let other: throw unknown("a layout", other)
    }
    var update = try PatternedDifference(
      algorithm: text(json, "algorithm"), values: values, layout: layout)
    update.repeatsOutputs = try flag(json, "repeated")
    return update
  }

  private func decomposed(_ json: JSONValue, depth: Int) throws(SurgeryError) -> Decomposed {
    let axis: Decomposed.Axis
    switch try text(json, "axis") {
    case "outputs": axis = .outputs
    case "inputs":
      axis = .inputs(kernelSize: try integer(json["kernel_size"], "kernel_size", from: 1))
    case let other: throw unknown("an axis", other)
    }
    let convention = try text(json, "convention")
    guard convention == "peft" || convention == "lycoris" else {
      throw unknown("a convention", convention)
    }
    let inner = try update(member(json, "inner"), depth: depth + 1)
    guard inner.isAdditive else { throw wrong("a decomposed update must be additive inside") }
    if case .inputs(let size) = axis, inner.columns % size != 0 {
      throw wrong("kernel_size does not divide the inputs", found: "\(size)")
    }
    return try Decomposed(
      inner, magnitude: view(json, "magnitude"), axis: axis,
      convention: convention == "peft" ? .peft : .lycoris)
  }

  private func orthogonal(_ json: JSONValue) throws(SurgeryError) -> Orthogonal {
    let (side, storage) = (try text(json, "side"), try text(json, "storage"))
    guard side == "inputs" || side == "outputs" else { throw unknown("a side", side) }
    guard storage == "triangle" || storage == "difference" else {
      throw unknown("a storage", storage)
    }
    let map: Orthogonal.CayleyMap
    switch try text(json, "map") {
    case "neumann":
      let terms = try integer(json["terms"], "terms", from: 1)
      guard terms <= Orthogonal.maximumTerms else {
        throw wrong("a series has too many terms", found: "\(terms)")
      }
      map = .neumann(terms: terms)
    case "minus-plus": map = .minusPlus
    case "plus-minus": map = .plusMinus
    case let other: throw unknown("a map", other)
    }
    var limit = Orthogonal.Limit.none
    if let value = try number(json, "block_limit") { limit = .eachBlock(value) }
    if let value = try number(json, "total_limit") { limit = .allBlocks(value) }
    return try Orthogonal(
      blocks: view(json, "blocks"),
      blockSize: integer(json["block_size"], "block_size", from: 1),
      side: side == "inputs" ? .inputs : .outputs,
      storage: storage == "triangle" ? .triangle : .difference, map: map, limit: limit,
      rescale: viewIfPresent(json, "rescale"))
  }

  private func stacked(_ json: JSONValue) throws(SurgeryError) -> StackedLowRank {
    let (up, down) = (try view(json, "up"), try view(json, "down"))
    let rank = try integer(json["rank"], "rank", from: 1)
    let isExpertMajor = try flag(json, "expert_major")
    let square: StackedLowRank.SquareRule
    switch try text(json, "square") {
    case "straight": square = .straight
    case "transposed": square = .transposed
    case "marked": square = .asMarked
    case "unknown": square = .unknown
    case let other: throw unknown("a rule for square experts", other)
    }
    let fits =
      down.rows > 0 && down.rows % rank == 0
      && (isExpertMajor
        ? up.columns == rank && up.rows % (down.rows / rank) == 0 : up.columns == down.rows)
    guard fits else {
      throw wrong(
        "stacked factors do not fit their rank",
        found: "\(up.rows) x \(up.columns), \(down.rows) x \(down.columns), rank \(rank)")
    }
    return try StackedLowRank(
      up: up, down: down, rank: rank, square: square, isExpertMajor: isExpertMajor)
  }

  private func parted(_ json: JSONValue) throws(SurgeryError) -> PartedLowRank {
    let rows = try integer(json["rows"], "rows")
    var parts: [(rows: Range<Int>, update: LowRank)] = []
    for part in try list(json, "parts") {
      let range = try list(part, "rows")
      let start = try integer(range.first, "rows")
      let end = try integer(range.dropFirst().first, "rows")
      let update = try lowRank(member(part, "update"))
      guard start <= end, end <= rows, update.rows == end - start,
        update.columns == parts.first?.update.columns ?? update.columns
      else { throw wrong("a part does not fit its rows", found: "\(start) to \(end)") }
      parts.append((start..<end, update))
    }
    return PartedLowRank(parts: parts, rows: rows)
  }

  private func tiled(_ json: JSONValue) throws(SurgeryError) -> TiledLowRank {
    let (rows, columns) = (
      try integer(json["rows"], "rows"), try integer(json["columns"], "columns")
    )
    var tiles: [TiledLowRank.Tile] = []
    for tile in try list(json, "tiles") {
      let update = try lowRank(member(tile, "update"))
      let (own, across) = (try range(tile, "rows"), try range(tile, "columns"))
      guard own.upperBound <= rows, across.upperBound <= columns, own.count == update.rows,
        across.count == update.columns
      else { throw wrong("a rectangle does not fit its factors", found: "\(own), \(across)") }
      tiles.append(.init(rows: own, columns: across, update: update))
    }
    return TiledLowRank(
      algorithm: try text(json, "algorithm"), tiles: tiles, rows: rows, columns: columns,
      rank: try integer(json["rank"], "rank", from: 1))
  }

  private func range(_ json: JSONValue, _ field: String) throws(SurgeryError) -> Range<Int> {
    let ends = try list(json, field)
    let start = try integer(ends.first, field)
    let end = try integer(ends.dropFirst().first, field)
    guard start <= end else { throw wrong("a range ends before it begins", found: field) }
    return start..<end
  }

  private func choice(
    _ json: JSONValue, _ bank: Factor
  ) throws(SurgeryError) -> VectorBank.Choice {
    switch try text(json, "kind") {
    case "logits":
      let logits = try view(json, "logits")
      guard logits.columns == bank.rows else { throw wrong("logits do not fit the bank") }
      return .logits(logits, most: try integer(json["most"], "most", from: 1))
    case "chosen":
      let (indices, weights) = (try view(json, "indices"), try view(json, "weights"))
      guard indices.columns > 0, weights.rows == indices.rows || weights.count == 0,
        weights.columns == indices.columns - 1
      else { throw wrong("weights do not fit their indices") }
      return .chosen(indices: indices, weights: weights)
    case let other: throw unknown("a choice of vectors", other)
    }
  }

  private func butterfly(_ json: JSONValue) throws(SurgeryError) -> Butterfly {
    let convention: Butterfly.Convention
    switch try text(json, "convention") {
    case "peft": convention = .peft
    case "lycoris": convention = .lycoris(limit: try number(json, "total_limit"))
    case let other: throw unknown("a convention", other)
    }
    // 2^30 rows are more than a rotation of that many stages can have.
    let stages = try integer(json["stages"], "stages", from: 1)
    guard stages <= 30 else { throw wrong("a rotation has too many stages", found: "\(stages)") }
    return try Butterfly(
      blocks: view(json, "blocks"), stages: stages,
      blockSize: integer(json["block_size"], "block_size", from: 1), convention: convention,
      rescale: viewIfPresent(json, "rescale"))
  }
}
