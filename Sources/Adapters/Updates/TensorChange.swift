public import LinearAlgebra
public import Tensors

/// Whether an adapter is put into a model or taken out of it.
public enum MergeDirection: String, Sendable, Codable {
  /// `W + weight · scale · up · down`.
  case merge
  /// `W - weight · scale · up · down`, the inverse.
  case unmerge
}

/// One update of a stored tensor, ready to be applied.
public struct PlannedUpdate: Sendable {
  /// The change, in `out x in` orientation.
  public var update: any Update
  /// The module's final scale.
  public var scale: Double
  /// The rows of the target's `out x in` matrix that it changes.
  public var rows: Range<Int>
  /// The user's weight of the adapter at this tensor.
  public var weight: Double
  /// Whether the tensor stores the transpose of the update's matrix.
  public var isTransposed: Bool
  /// The position of its adapter among those that are applied together.
  public var adapter: Int

  /// How much of the stored matrix must be at hand at once.
  public var need: BlockNeed { isTransposed ? update.need.transposed : update.need }
}

extension TensorUpdates {
  /// The changes of this tensor, ready to be applied.
  ///
  /// - Parameters:
  ///   - weight: The user's weight of the adapter at this tensor.
  ///   - adapter: The position of the adapter among those that are applied together.
  /// - Returns: The changes in the order in which a merge applies them.
  public func planned(weight: Double = 1, adapter: Int = 0) -> [PlannedUpdate] {
    updates.map {
      PlannedUpdate(
        update: $0.update, scale: $0.scale, rows: $0.rows, weight: weight,
        isTransposed: isTransposed, adapter: adapter)
    }
  }
}

/// All updates of one tensor with their factors in memory, applied to blocks of rows of the stored matrix.
public struct TensorChange<Scalar: BLASScalar>: Sendable {
  private let parts: [(loaded: any LoadedUpdate<Scalar>, planned: PlannedUpdate)]
  private let direction: MergeDirection

  /// Reads the factors.
  ///
  /// - Parameters:
  ///   - updates: The updates, in the order in which they are merged; taking out goes the other way.
  ///   - direction: Whether they are put in or taken out.
  /// - Throws: What reading throws; `adapter.non-finite`.
  /// - Complexity: The size of the factors.
  public init(_ updates: [PlannedUpdate], _ direction: MergeDirection) throws(SurgeryError) {
    var parts: [(loaded: any LoadedUpdate<Scalar>, planned: PlannedUpdate)] = []
    for planned in updates {
      parts.append((try planned.update.loaded(scale: planned.scale, as: Scalar.self), planned))
    }
    self.direction = direction
    self.parts = direction == .merge ? parts : parts.reversed()
  }

  /// Adds what the updates add to the rows, or subtracts it when unmerging; for additive updates.
  ///
  /// - Parameters:
  ///   - delta: `rows.count` rows of the stored matrix.
  ///   - rows: Which stored rows.
  public func addDelta(to delta: inout Matrix<Scalar>, rows: Range<Int>) {
    for (loaded, planned) in parts {
      let weight = direction == .merge ? planned.weight : -planned.weight
      guard planned.isTransposed else {
        visit(planned, &delta, rows, 0..<delta.columns) { part, rows, columns throws(Never) in
          loaded.apply(to: &part, rows: rows, columns: columns, weight: weight)
        }
        continue
      }
      var straight = Matrix<Scalar>(rows: delta.columns, columns: rows.count)
      visit(planned, &straight, 0..<delta.columns, rows) { part, rows, columns throws(Never) in
        loaded.apply(to: &part, rows: rows, columns: columns, weight: weight)
      }
      delta.add(straight.transposed())
    }
  }

  /// Adds what the one update adds to rows of stored elements, or subtracts it when unmerging, in one pass where that can be.
  ///
  /// - Parameters:
  ///   - source: Elements of the stored matrix.
  ///   - dtype: The type of source and target.
  ///   - target: Receives as many elements of the same type.
  ///   - rows: Which stored rows.
  /// - Returns: What was done, or `nil` where it cannot and nothing was done.
  public func add(
    to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan, rows: Range<Int>
  ) -> AdditionSums? {
    guard let (loaded, planned) = parts.first, parts.count == 1, !planned.isTransposed,
      rows.clamped(to: planned.rows) == rows
    else { return nil }
    let first = planned.rows.lowerBound
    return loaded.add(
      to: source, of: dtype, into: &target,
      rows: rows.lowerBound - first..<rows.upperBound - first,
      weight: direction == .merge ? planned.weight : -planned.weight)
  }

  /// Applies every update to a block, or takes them out.
  ///
  /// - Parameters:
  ///   - block: Whole rows of the stored matrix, or all of it where an update needs that.
  ///   - rows: Which stored rows.
  /// - Throws: `adapter.not-invertible`.
  public func apply(to block: inout Matrix<Scalar>, rows: Range<Int>) throws(SurgeryError) {
    let columns = 0..<block.columns
    for (loaded, planned) in parts {
      if planned.isTransposed { block = block.transposed() }
      try visit(
        planned, &block, planned.isTransposed ? columns : rows,
        planned.isTransposed ? rows : columns
      ) { (part, rows, columns) throws(SurgeryError) in
        switch direction {
        case .merge: loaded.apply(to: &part, rows: rows, columns: columns, weight: planned.weight)
        case .unmerge:
          try loaded.unapply(to: &part, rows: rows, columns: columns, weight: planned.weight)
        }
      }
      if planned.isTransposed { block = block.transposed() }
    }
  }

  /// Lends the part of a block that an update changes, with its place in the update's own matrix.
  private func visit<Failure: Error>(
    _ planned: PlannedUpdate, _ block: inout Matrix<Scalar>, _ outputs: Range<Int>,
    _ inputs: Range<Int>,
    _ body: (inout Matrix<Scalar>, Range<Int>, Range<Int>) throws(Failure) -> Void
  ) throws(Failure) {
    let common = outputs.clamped(to: planned.rows)
    guard !common.isEmpty else { return }
    let first = planned.rows.lowerBound
    let own = common.lowerBound - first..<common.upperBound - first
    if common == outputs { return try body(&block, own, inputs) }
    let inside =
      common.lowerBound - outputs.lowerBound..<common.upperBound - outputs.lowerBound
    var part = block.block(rows: inside, columns: 0..<block.columns)
    try body(&part, own, inputs)
    block.replaceRows(from: inside.lowerBound, with: part)
  }
}

extension Matrix {
  /// Overwrites rows with those of a matrix of equal width.
  mutating func replaceRows(from first: Int, with other: Matrix) {
    let start = first * columns
    withElements { copyElements(other.elements.span, to: &$0, at: start) }
  }

  /// Adds a matrix of the same shape.
  fileprivate mutating func add(_ other: Matrix) {
    withElements { addElements(other.elements.span, to: &$0) }
  }
}

@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func copyElements<Scalar: BLASScalar>(
  _ source: Span<Scalar>, to target: inout MutableSpan<Scalar>, at start: Int
) {
  for index in source.indices { target[start &+ index] = source[index] }
}

@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func addElements<Scalar: BLASScalar>(
  _ source: Span<Scalar>, to target: inout MutableSpan<Scalar>
) {
  for index in source.indices { target[index] += source[index] }
}
