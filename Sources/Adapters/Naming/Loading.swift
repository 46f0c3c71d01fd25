public import LinearAlgebra
public import Tensors

/// All changes of one tensor with their factors in memory, applied to blocks of the stored matrix.
public struct LoadedTensorUpdates<Scalar: BLASScalar>: Sendable {
  private struct Step: Sendable {
    let update: any LoadedUpdate<Scalar>
    let rows: Range<Int>
  }

  private let steps: [Step]
  private let isTransposed: Bool
  private let columns: Int

  fileprivate init(_ tensor: TensorUpdates) throws(SurgeryError) {
    var steps: [Step] = []
    for update in tensor.updates {
      steps.append(
        Step(
          update: try update.update.loaded(scale: update.scale, as: Scalar.self),
          rows: update.rows))
    }
    self.steps = steps
    isTransposed = tensor.isTransposed
    columns = tensor.storedColumns
  }

  /// Applies every change to a block.
  ///
  /// - Parameters:
  ///   - block: Whole rows of the stored matrix, widened; the whole matrix where the tensor does not work by rows.
  ///   - rows: Which stored rows the block holds.
  ///   - weight: The user's weight of the adapter.
  public func apply(to block: inout Matrix<Scalar>, rows: Range<Int>, weight: Double = 1) {
    oriented(&block) { block throws(Never) in
      for step in steps {
        visit(step, &block, rows) { part, rows, columns throws(Never) in
          step.update.apply(to: &part, rows: rows, columns: columns, weight: weight)
        }
      }
    }
  }

  /// Takes every change out of a block, the last first.
  ///
  /// - Parameters:
  ///   - block: As for `apply`.
  ///   - rows: Which stored rows the block holds.
  ///   - weight: The weight that the adapter was merged with.
  /// - Throws: `adapter.not-invertible`.
  public func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, weight: Double = 1
  ) throws(SurgeryError) {
    try oriented(&block) { block throws(SurgeryError) in
      for step in steps.reversed() {
        try visit(step, &block, rows) { part, rows, columns throws(SurgeryError) in
          try step.update.unapply(to: &part, rows: rows, columns: columns, weight: weight)
        }
      }
    }
  }

  /// The sum of all changes of a block at weight 1, in the stored orientation.
  ///
  /// - Parameter rows: Stored rows.
  /// - Returns: `rows.count` by all stored columns; `nil` where a change depends on the tensor itself.
  public func delta(rows: Range<Int>) -> Matrix<Scalar>? {
    var block = Matrix<Scalar>(rows: rows.count, columns: columns)
    var isAdditive = true
    oriented(&block) { block throws(Never) in
      for step in steps {
        visit(step, &block, rows) { part, rows, columns throws(Never) in
          if let delta = step.update.delta(rows: rows, columns: columns) {
            part.add(delta, times: 1)
          } else {
            isAdditive = false
          }
        }
      }
    }
    return isAdditive ? block : nil
  }

  /// Lends the block as `out x in`.
  private func oriented<Failure: Error>(
    _ block: inout Matrix<Scalar>, _ body: (inout Matrix<Scalar>) throws(Failure) -> Void
  ) throws(Failure) {
    guard isTransposed else { return try body(&block) }
    block = block.transposed()
    try body(&block)
    block = block.transposed()
  }

  /// Lends the part of a block that a step changes, with its place in the step's own matrix.
  private func visit<Failure: Error>(
    _ step: Step, _ block: inout Matrix<Scalar>, _ stored: Range<Int>,
    _ body: (inout Matrix<Scalar>, Range<Int>, Range<Int>) throws(Failure) -> Void
  ) throws(Failure) {
    let rows = isTransposed ? 0..<block.rows : stored
    let columns = isTransposed ? stored : 0..<block.columns
    let common = rows.clamped(to: step.rows)
    if common.isEmpty { return }
    let own =
      (common.lowerBound - step.rows.lowerBound)..<(common.upperBound - step.rows.lowerBound)
    if common == rows { return try body(&block, own, columns) }
    let inner = (common.lowerBound - rows.lowerBound)..<(common.upperBound - rows.lowerBound)
    var part = block.block(rows: inner, columns: 0..<block.columns)
    try body(&part, own, columns)
    block.replaceRows(from: inner.lowerBound, with: part)
  }
}

extension TensorUpdates {
  /// Reads the factors of every change of this tensor.
  ///
  /// - Parameter scalar: The precision to compute in.
  /// - Returns: The changes in memory, for one worker.
  /// - Throws: What reading throws; `adapter.non-finite`.
  /// - Complexity: The size of the factors.
  public func loaded<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> LoadedTensorUpdates<Scalar> {
    try LoadedTensorUpdates(self)
  }
}

extension Matrix {
  /// Overwrites rows with those of a matrix of equal width.
  mutating func replaceRows(from first: Int, with other: Matrix) {
    let start = first * columns
    withElements { target in
      let source = other.elements.span
      for i in source.indices { target[start + i] = source[i] }
    }
  }
}
