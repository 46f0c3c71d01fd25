public import LinearAlgebra
public import Tensors

/// HRA: `W · Π (I - 2 uᵢ uᵢᵀ)`, reflections of the inputs from left to right.
///
/// Yuan et al. 2024, arXiv:2405.17484; peft:src/peft/tuners/hra/layer.py.
public struct Reflections: Update {
  /// One direction a column, of any length.
  public var directions: Factor
  private var height = 0

  /// Describes reflections.
  ///
  /// - Parameter directions: `in x count`.
  /// - Throws: `adapter.dtype`.
  public init(_ directions: Factor) throws(SurgeryError) {
    guard directions.dtype.isFloatingPoint else { throw directions.notFloating }
    self.directions = directions
  }

  /// HRA.
  public var algorithm: String { "hra" }
  /// Outputs, once fitted.
  public var rows: Int { height }
  /// Inputs.
  public var columns: Int { directions.rows }
  /// The number of reflections.
  public var rank: Int? { directions.columns }
  /// Not additive.
  public var isAdditive: Bool { false }
  /// Rows are reflected whole.
  public var need: BlockNeed { .wholeRows }
  /// The directions.
  public var factors: [Factor] { [directions] }

  /// Takes the number of outputs from the target.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    var fitted = self
    fitted.height = target.storedColumns == columns ? target.storedRows : target.storedColumns
    return FittedUpdate(
      update: fitted,
      isTransposed: try target.isTransposed(rows: fitted.height, columns: columns))
  }

  /// Reads the directions and makes them unit vectors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    var units = try directions.transposed().matrix(of: Double.self)
    units.multiplyRows(by: rowNorms(units).map { $0 == 0 ? 0 : 1 / $0 })
    return LoadedReflections(directions: units.converted(to: Scalar.self))
  }
}

/// Unit directions, one a row.
struct LoadedReflections<Scalar: BLASScalar>: LoadedUpdate {
  let directions: Matrix<Scalar>

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    let original = weight == 1 ? nil : block
    for index in 0..<directions.rows { reflect(&block, index) }
    if var original {
      original.scale(by: Scalar(1 - weight))
      block.scale(by: Scalar(weight))
      block.add(original, times: 1)
    }
  }

  /// A reflection is its own inverse; at another weight there is none of this form.
  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    guard weight == 1 else {
      throw SurgeryError.notInvertible("reflections can only be undone at weight 1")
    }
    for index in (0..<directions.rows).reversed() { reflect(&block, index) }
  }

  private func reflect(_ block: inout Matrix<Scalar>, _ index: Int) {
    let unit = directions.block(rows: index..<(index + 1), columns: 0..<directions.columns)
    let along = product(block, unit, transposeSecond: true)
    block.add(product(along, unit), times: -2)
  }

  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? { nil }
}
