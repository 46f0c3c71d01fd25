import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Rounds factors to their storage dtype and lets them wait in a spool until the adapter is laid out.
struct FactorSpool: Sendable {
  let spool: SpoolFile
  /// The dtype of everything that is stored; `nil` keeps that of the sources.
  let dtype: DType?
  let allowOverflow: Bool

  /// A pair that waits, of one matrix or of a stack, with the values that its storage dtype left of it.
  struct Pair: Sendable {
    /// The factors in the spool.
    var stored: StoredFactors
    /// One for each matrix.
    var rounded: [Factors<Double>]

    /// The rank of each matrix.
    var rank: Int { rounded.first?.rank ?? 0 }
  }

  /// The dtype that factors are stored in.
  func storageDType(like source: DType) -> DType { dtype ?? source }

  /// Stores a pair.
  ///
  /// - Throws: `dtype.overflow` where finite values do not fit, unless that is allowed; what writing throws.
  func store(_ factors: Factors<Double>, like dtype: DType) throws(SurgeryError) -> Pair {
    try store([factors], like: dtype)
  }

  /// Stores the pairs of a stack in two tensors.
  ///
  /// - Parameters:
  ///   - factors: At least one pair; all of one shape and rank.
  ///   - dtype: The dtype where none is asked for.
  /// - Returns: The pair of the stack.
  /// - Throws: `dtype.overflow` where finite values do not fit, unless that is allowed; what writing throws.
  func store(_ factors: [Factors<Double>], like dtype: DType) throws(SurgeryError) -> Pair {
    let dtype = storageDType(like: dtype)
    let (up, ups) = try store(Matrix(stacking: factors.map(\.up)), as: dtype)
    let (down, downs) = try store(Matrix(stacking: factors.map(\.down)), as: dtype)
    return Pair(
      stored: StoredFactors(left: up, right: down),
      rounded: zip(ups.parted(into: factors.count), downs.parted(into: factors.count)).map {
        Factors(up: $0, down: $1)
      })
  }

  /// Stores one matrix under the shape that it has, or a given one.
  func store(
    _ matrix: Matrix<Double>, as dtype: DType, shape: Shape? = nil
  ) throws(SurgeryError) -> (tensor: StoredTensor, rounded: Matrix<Double>) {
    var rounding = Rounding<Double>(to: dtype)
    var rounded = matrix
    try rounded.withElements { (values) throws(SurgeryError) in try rounding.round(&values) }
    try rounding.checkOverflow(allowed: allowOverflow)
    let tensor = try spool.append(
      rounded.elements.narrowed(to: dtype),
      shape: shape ?? Shape(rows: matrix.rows, columns: matrix.columns), as: dtype)
    return (tensor, rounded)
  }
}

extension ModuleUpdate {
  /// The module with stored factors in the place of its update.
  ///
  /// - Parameters:
  ///   - pair: The factors.
  ///   - scale: What they are to be multiplied by, where that is known; alpha follows from it.
  ///   - form: The form of the layer, if the module's own does not tell it.
  ///   - isTransposed: Whether the pair is of the storage's `in x out` matrix.
  /// - Returns: The module, without what was measured of the factors that it had.
  /// - Throws: `adapter.shape` or `adapter.dtype`.
  func replacing(
    _ pair: FactorSpool.Pair, scale: Double?, form: LowRank.Form? = nil, isTransposed: Bool = false
  ) throws(SurgeryError) -> ModuleUpdate {
    var result = self
    let (up, down) = pair.stored.factors(isTransposed: isTransposed)
    result.update = try update.replacingProducts(up: up, down: down, form: form ?? self.form)
    result.extraction = nil
    result.scale = scale
    result.alpha = scale.map { $0 * Double(pair.rank) }
    return result
  }
}
