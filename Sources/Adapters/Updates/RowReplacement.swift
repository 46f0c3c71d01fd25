import Checkpoints
public import LinearAlgebra
public import Tensors

/// Some rows take stored values: PEFT's trainable tokens, which are stored in full although called a delta
/// (peft:src/peft/tuners/trainable_tokens/layer.py).
public struct RowReplacement: Update {
  /// One row of values for each index.
  public var values: Factor
  /// The rows that are replaced.
  public var indices: [Int]
  private var targetRows: Int

  /// Describes a replacement of rows.
  ///
  /// - Parameters:
  ///   - values: `indices.count` rows.
  ///   - indices: The rows of the target.
  /// - Throws: `adapter.shape` where the numbers differ.
  public init(_ values: Factor, indices: [Int]) throws(SurgeryError) {
    guard values.rows == indices.count else {
      throw SurgeryError.adapter(
        "shape", "the file has another number of tokens than the configuration",
        file: values.tensor.source.file.path, key: values.tensor.name.text,
        expected: "\(indices.count, counting: "row") (trainable_token_indices)",
        found: "\(values.rows)")
    }
    guard values.dtype.isFloatingPoint else { throw values.notFloating }
    self.values = values
    self.indices = indices
    targetRows = (indices.max() ?? 0) + 1
  }

  /// Trainable tokens.
  public var algorithm: String { "trainable_tokens" }
  /// Rows of the target.
  public var rows: Int { targetRows }
  /// Columns of the values.
  public var columns: Int { values.columns }
  /// Not additive.
  public var isAdditive: Bool { false }
  /// The values.
  public var factors: [Factor] { [values] }
  /// What was there is gone.
  public var inversion: Inversion { .impossible("rows of the embedding were replaced") }

  /// Checks the indices against the target.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    guard let largest = indices.max(), largest < target.storedRows,
      indices.allSatisfy({ $0 >= 0 }), columns == target.storedColumns
    else {
      throw SurgeryError.adapter(
        "vocab", "the trained tokens do not fit the base", key: values.tensor.name.text,
        expected: "indices below \(target.storedRows) of \(target.name.text) \(target.shape)",
        found: "index \(indices.max() ?? -1), \(columns, counting: "column")",
        hint: "use the base that the adapter was trained on")
    }
    var fitted = self
    fitted.targetRows = target.storedRows
    return FittedUpdate(update: fitted, isTransposed: false)
  }

  /// Reads the values.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    LoadedRows<Scalar>(values: try values.matrix(of: Scalar.self), indices: indices)
  }
}

/// Rows to be replaced, in memory.
struct LoadedRows<Scalar: BLASScalar>: LoadedUpdate {
  let values: Matrix<Scalar>
  let indices: [Int]

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    for (position, index) in indices.enumerated() where rows.contains(index) {
      for (place, column) in columns.enumerated() {
        let new = values[position, column]
        let old = block[index - rows.lowerBound, place]
        block[index - rows.lowerBound, place] =
          weight == 1 ? new : old + Scalar(weight) * (new - old)
      }
    }
  }

  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    throw SurgeryError.notInvertible("rows of the embedding were replaced")
  }

  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? { nil }
}
