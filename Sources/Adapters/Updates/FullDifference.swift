public import LinearAlgebra
public import Tensors

/// `W + s · D`, where the difference itself is stored: LyCORIS `diff`, norms, bias deltas.
public struct FullDifference: Update {
  /// `out x in`.
  public var difference: Factor
  /// The family's name in reports.
  public var algorithm: String { "full" }

  /// Describes a stored difference.
  ///
  /// - Parameter difference: `out x in`; a bias is one column.
  /// - Throws: `adapter.dtype`.
  public init(_ difference: Factor) throws(SurgeryError) {
    guard difference.dtype.isFloatingPoint else { throw difference.notFloating }
    self.difference = difference
  }

  /// Rows of the difference.
  public var rows: Int { difference.rows }
  /// Columns of the difference.
  public var columns: Int { difference.columns }
  /// Reproducible: each element is one product.
  public var isReproducible: Bool { true }
  /// The difference.
  public var factors: [Factor] { [difference] }

  /// Reads the difference.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    var matrix = try difference.matrix(of: Scalar.self)
    matrix.scale(by: Scalar(scale))
    return LoadedDifference(matrix: matrix)
  }
}

/// A difference in memory, scale included.
struct LoadedDifference<Scalar: BLASScalar>: AdditiveUpdate {
  let matrix: Matrix<Scalar>

  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar> {
    matrix.block(rows: rows, columns: columns)
  }
}
