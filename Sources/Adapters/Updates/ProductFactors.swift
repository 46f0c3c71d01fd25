public import LinearAlgebra
public import Tensors

extension Update {
  /// The inner size of the one matrix product that the update is at scale 1; `nil` for updates of another kind.
  ///
  /// A core counts as folded into `down`; the parts of a fused projection make a product whose ranks add up.
  public var productRank: Int? {
    switch self {
    case let pair as LowRank: pair.up.columns
    case let permuted as HeadPermuted: permuted.inner.up.columns
    case let weighted as WeightedLowRank: weighted.up.columns
    case let fused as PartedLowRank: fused.parts.reduce(0) { $0 + $1.update.up.columns }
    default: nil
    }
  }

  /// Reads the update as one product of two factors, without its scale.
  ///
  /// - Parameter scalar: The precision.
  /// - Returns: Factors of the `out x in` matrix; `nil` where ``productRank`` is.
  /// - Throws: What reading throws; `adapter.non-finite`.
  public func productFactors<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> Factors<Scalar>? {
    switch self {
    case is LowRank, is WeightedLowRank, is HeadPermuted:
      guard let pair = try loaded(scale: 1, as: Scalar.self) as? LoadedLowRank<Scalar> else {
        return nil
      }
      return Factors(up: pair.up, down: pair.down)
    case let fused as PartedLowRank:
      var up = Matrix<Scalar>(rows: rows, columns: productRank ?? 0)
      var down: [Scalar] = []
      var column = 0
      for (own, update) in fused.parts {
        let part = try update.loadedFactors(scale: 1, as: Scalar.self)
        for row in own {
          for k in 0..<part.up.columns {
            up[row, column + k] = part.up[row - own.lowerBound, k]
          }
        }
        down += part.down.elements
        column += part.up.columns
      }
      return Factors(up: up, down: Matrix(rows: column, columns: columns, elements: down))
    default: return nil
    }
  }
}

extension Update {
  /// The inner size of the products that the update is at scale 1, one for each matrix of a stack of experts; `nil` for updates
  /// of another kind.
  public var rankOfProducts: Int? { (self as? StackedLowRank)?.rank ?? productRank }

  /// Reads the update as products of two factors, without its scale: one, or one for each matrix of a stack of experts.
  ///
  /// - Parameter scalar: The precision.
  /// - Returns: Factors of `out x in` matrices; `nil` where ``rankOfProducts`` is.
  /// - Throws: What reading throws; `adapter.non-finite`.
  public func products<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> [Factors<Scalar>]? {
    if let stack = self as? StackedLowRank { return try stack.matrices(as: scalar) }
    return try productFactors(as: scalar).map { [$0] }
  }

  /// The update with another pair, in the row order that this update has.
  ///
  /// - Parameters:
  ///   - up: `out x rank`; of a stack, the rows of one matrix after those of the other.
  ///   - down: `rank x in`, likewise.
  ///   - form: The form of one product; a stack keeps its own.
  /// - Returns: The update.
  /// - Throws: `adapter.dtype`.
  public func replacingProducts(
    up: Factor, down: Factor, form: LowRank.Form
  ) throws(SurgeryError) -> any Update {
    if let stack = self as? StackedLowRank { return try stack.replacingFactors(up: up, down: down) }
    let pair = try LowRank(up: up, down: down, form: form)
    return (self as? HeadPermuted).map { HeadPermuted(pair, isKey: $0.isKey) } ?? pair
  }
}
