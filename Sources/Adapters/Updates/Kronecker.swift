public import LinearAlgebra
public import Tensors

/// LoKr: `W + s · (first ⊗ second)`, each factor whole or of low rank (LyCORIS:lycoris/modules/lokr.py).
public struct Kronecker: Update {
  /// A factor of the Kronecker product.
  public enum Term: Sendable {
    /// A whole matrix.
    case full(Factor)
    /// A product of two.
    case lowRank(LowRank)

    var rows: Int {
      switch self {
      case .full(let factor): factor.rows
      case .lowRank(let product): product.rows
      }
    }

    var columns: Int {
      switch self {
      case .full(let factor): factor.columns
      case .lowRank(let product): product.columns
      }
    }

    var factors: [Factor] {
      switch self {
      case .full(let factor): [factor]
      case .lowRank(let product): product.factors
      }
    }

    var rank: Int? {
      switch self {
      case .full: nil
      case .lowRank(let product): product.rank
      }
    }

    func matrix<Scalar: BLASScalar>(of scalar: Scalar.Type) throws(SurgeryError) -> Matrix<Scalar> {
      switch self {
      case .full(let factor): try factor.matrix(of: Scalar.self)
      case .lowRank(let pair):
        try pair.loadedFactors(scale: 1, as: Scalar.self)
          .change(rows: 0..<pair.rows, columns: 0..<pair.columns)
      }
    }
  }

  /// `l x m`.
  public var first: Term
  /// `k x (n · kernel)`.
  public var second: Term

  /// Describes the product.
  ///
  /// - Parameters:
  ///   - first: `l x m`.
  ///   - second: `k x (n · kernel)`.
  /// - Throws: `adapter.dtype`.
  public init(_ first: Term, _ second: Term) throws(SurgeryError) {
    for factor in first.factors + second.factors where !factor.dtype.isFloatingPoint {
      throw factor.notFloating
    }
    self.first = first
    self.second = second
  }

  /// LoKr.
  public var algorithm: String { "lokr" }
  /// `l · k`.
  public var rows: Int { first.rows * second.rows }
  /// `m · n · kernel`.
  public var columns: Int { first.columns * second.columns }
  /// The rank of the factor that has one.
  public var rank: Int? { first.rank ?? second.rank }
  /// All factors.
  public var factors: [Factor] { first.factors + second.factors }

  /// Reads the factors; both are multiplied out, being small.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    var matrix = try first.matrix(of: Scalar.self)
    matrix.scale(by: Scalar(scale))
    return LoadedKronecker(first: matrix, second: try second.matrix(of: Scalar.self))
  }
}

/// The factors of a Kronecker product in memory, scale included.
struct LoadedKronecker<Scalar: BLASScalar>: AdditiveUpdate {
  let first: Matrix<Scalar>
  let second: Matrix<Scalar>

  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar> {
    Matrix(
      rows: rows.count, columns: columns.count,
      elements: kronecker(first, second, rows: rows, columns: columns))
  }
}

@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func kronecker<Scalar: BLASScalar>(
  _ first: Matrix<Scalar>, _ second: Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>
) -> [Scalar] {
  let (left, right) = (first.elements.span, second.elements.span)
  var result: [Scalar] = []
  result.reserveCapacity(rows.count * columns.count)
  for row in rows {
    let (i, p) = row.quotientAndRemainder(dividingBy: second.rows)
    for column in columns {
      let (j, q) = column.quotientAndRemainder(dividingBy: second.columns)
      result.append(
        left[i &* first.columns &+ j] * right[p &* second.columns &+ q])
    }
  }
  return result
}
