public import LinearAlgebra
public import Tensors

/// How much of the target must be at hand at once for an update to be applied.
public enum BlockNeed: Int, Sendable, Hashable, Codable, Comparable {
  /// Any rectangle of rows and columns.
  case any
  /// Whole rows of the `out x in` matrix: all inputs of some outputs.
  case wholeRows
  /// Whole columns of the `out x in` matrix: all outputs of some inputs.
  case wholeColumns
  /// The whole matrix.
  case whole

  /// Orders from the least need to the greatest.
  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// What satisfies both needs.
  public func joined(with other: Self) -> Self {
    if self == other || other == .any { return self }
    return self == .any ? other : .whole
  }

  /// The need in terms of the transposed matrix.
  public var transposed: Self {
    switch self {
    case .any, .whole: self
    case .wholeRows: .wholeColumns
    case .wholeColumns: .wholeRows
    }
  }
}

/// Whether an update can be taken out of a merged weight again, without the base.
public enum Inversion: Sendable, Hashable {
  /// It can: subtracted, divided or rotated back.
  case possible
  /// It cannot, for this reason.
  case impossible(String)
}

/// A change of one weight matrix, in the `out x in` orientation of `y = W x`, whatever the target's storage.
///
/// An update is a description: shapes and views of stored tensors. `loaded(scale:)` reads the factors and gives the thing
/// that changes blocks; one worker loads once and applies to many blocks.
public protocol Update: Sendable {
  /// The family of the update, as `inspect` names it: `lora`, `dora`, `loha`, …
  var algorithm: String { get }
  /// What the update is, in words for a message: "an update of kind lora".
  var summary: String { get }
  /// Rows of the matrix that the update changes: outputs.
  var rows: Int { get }
  /// Columns of the matrix that the update changes: inputs, times the kernel of a convolution.
  var columns: Int { get }
  /// The rank, for kinds that have one.
  var rank: Int? { get }
  /// The inner size of the products of two factors that the update is at scale 1: of one product, or of one for each matrix of
  /// a stack of experts; `nil` for kinds that are none.
  ///
  /// A core counts as folded into `down`; the parts of a fused projection make one product, whose ranks add up.
  var productRank: Int? { get }
  /// How much of the target must be at hand at once.
  var need: BlockNeed { get }
  /// Whether the result is the target plus something that does not depend on the target.
  var isAdditive: Bool { get }
  /// Whether every element of the delta has the same bits on every machine and in whatever block it is computed, so that a
  /// record of differences may rely on it.
  var isReproducible: Bool { get }
  /// Whether the update can be taken out again.
  var inversion: Inversion { get }
  /// Every stored tensor that the update uses.
  var factors: [Factor] { get }

  /// The update made to fit a tensor of the base, where its form depends on that tensor.
  ///
  /// - Parameter target: The tensor that the update's name resolved to.
  /// - Returns: The update to apply, and whether the target is stored transposed.
  /// - Throws: `adapter.shape` or `adapter.ambiguous-orientation`.
  func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate

  /// Reads the factors.
  ///
  /// - Parameters:
  ///   - scale: The module's final scale.
  ///   - scalar: The precision to compute in.
  /// - Returns: The update with its factors in memory.
  /// - Throws: What reading throws; `adapter.non-finite`.
  func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar>

  /// Reads the update as products of two factors, without its scale.
  ///
  /// - Parameter scalar: The precision.
  /// - Returns: Factors of the `out x in` matrix, or of each matrix of a stack; `nil` where ``productRank`` is.
  /// - Throws: What reading throws; `adapter.non-finite`.
  func products<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> [Factors<Scalar>]?

  /// An update by another pair of factors, in the row order and the stack that this one has.
  ///
  /// - Parameters:
  ///   - up: `out x rank`; of a stack, the rows of one matrix after those of the other.
  ///   - down: `rank x in`, likewise.
  ///   - form: The form of one product; a stack keeps its own.
  /// - Returns: The update.
  /// - Throws: `adapter.shape` or `adapter.dtype`.
  func replacingProducts(
    up: Factor, down: Factor, form: LowRank.Form
  ) throws(SurgeryError) -> any Update
}

/// An update with its factors in memory.
public protocol LoadedUpdate<Scalar>: Sendable {
  /// The precision of the arithmetic.
  associatedtype Scalar: BLASScalar

  /// Changes a block of the target.
  ///
  /// - Parameters:
  ///   - block: Elements of the `out x in` matrix; as much of it as `need` asks for.
  ///   - rows: The rows of the matrix that the block holds.
  ///   - columns: The columns of the matrix that the block holds.
  ///   - weight: The user's weight of the adapter, 1 for all of it.
  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double)

  /// Takes the change out of a block that has it.
  ///
  /// - Parameters:
  ///   - block: Elements of the merged `out x in` matrix; as much of it as `need` asks for.
  ///   - rows: The rows of the matrix that the block holds.
  ///   - columns: The columns of the matrix that the block holds.
  ///   - weight: The weight that the adapter was merged with.
  /// - Throws: `adapter.not-invertible`.
  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError)

  /// Adds the change to whole rows of stored elements and rounds each sum once, where that can be done in one pass.
  ///
  /// - Parameters:
  ///   - source: The rows' elements, little-endian.
  ///   - dtype: The type of source and target.
  ///   - target: Receives as many elements of the same type.
  ///   - rows: Rows of the `out x in` matrix.
  ///   - weight: The user's weight of the adapter; negative to take the change out.
  /// - Returns: What was done, or `nil` where it cannot and nothing was done.
  func add(
    to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan, rows: Range<Int>,
    weight: Double
  ) -> AdditionSums?

  /// The change of a block at weight 1, where it does not depend on the target; else `nil`.
  ///
  /// - Parameters:
  ///   - rows: Rows of the `out x in` matrix.
  ///   - columns: Columns of the `out x in` matrix.
  /// - Returns: The delta with the module's scale in it.
  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>?
}

extension LoadedUpdate {
  /// Nothing: product and addition are separate passes.
  public func add(
    to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan, rows: Range<Int>,
    weight: Double
  ) -> AdditionSums? { nil }
}

/// A loaded update that adds something which does not depend on its target.
public protocol AdditiveUpdate<Scalar>: LoadedUpdate {
  /// The change of a block at weight 1, with the module's scale in it.
  ///
  /// - Parameters:
  ///   - rows: Rows of the `out x in` matrix.
  ///   - columns: Columns of the `out x in` matrix.
  /// - Returns: The delta.
  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>
}

extension AdditiveUpdate {
  /// Adds the change times the weight.
  public func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    block.add(change(rows: rows, columns: columns), times: Scalar(weight))
  }

  /// Subtracts the change times the weight, which cannot fail.
  public func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    block.add(change(rows: rows, columns: columns), times: Scalar(-weight))
  }

  /// The change.
  public func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? {
    change(rows: rows, columns: columns)
  }
}

extension Update {
  /// The family.
  public var summary: String { "an update of kind \(algorithm)" }
  /// Any rectangle.
  public var need: BlockNeed { .any }
  /// Additive.
  public var isAdditive: Bool { true }
  /// Not reproducible: BLAS may have a part in it.
  public var isReproducible: Bool { false }
  /// Possible.
  public var inversion: Inversion { .possible }
  /// None.
  public var rank: Int? { nil }
  /// None.
  public var productRank: Int? { nil }

  /// Nothing: the update is no product.
  public func products<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> [Factors<Scalar>]? { nil }

  /// One product.
  public func replacingProducts(
    up: Factor, down: Factor, form: LowRank.Form
  ) throws(SurgeryError) -> any Update {
    try LowRank(up: up, down: down, form: form)
  }

  /// The update as it is, with the orientation that the target decides.
  ///
  /// - Throws: `adapter.shape` where neither orientation fits.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    FittedUpdate(update: self, isTransposed: try target.isTransposed(rows: rows, columns: columns))
  }

  /// Parameters of all factors together.
  public var parameterCount: Int {
    factors.reduce(0) { $0 + $1.count }
  }
}

/// An update as it fits its target.
public struct FittedUpdate: Sendable {
  /// The update to apply.
  public var update: any Update
  /// Whether the target's stored matrix is the transpose of the update's.
  public var isTransposed: Bool
  /// Rows of the stored matrix, where they are not the first dimension: a stack of matrices is taken as one tall matrix.
  public var storedRows: Int?
  /// What the scale is multiplied by, where the rank that alpha is divided by only shows in the base.
  public var scaleFactor: Double

  /// Pairs an update with its target's orientation.
  public init(
    update: any Update, isTransposed: Bool, storedRows: Int? = nil, scaleFactor: Double = 1
  ) {
    self.update = update
    self.isTransposed = isTransposed
    self.storedRows = storedRows
    self.scaleFactor = scaleFactor
  }
}
