import Checkpoints
public import LinearAlgebra
public import Tensors

/// Low-rank changes of a stack of matrices in one tensor `[experts, d1, d2]`, taken as one matrix of `experts · d1` rows.
///
/// PEFT stores `down` expert-major, `experts · rank x in`, and `up` rank-major, `out x rank · experts` with the expert fastest
/// (peft:src/peft/tuners/lora/layer.py, `ParamWrapper.get_delta_weight`).
public struct StackedLowRank: Update {
  /// What holds for square experts, whose shape does not say which way they lie.
  public enum SquareRule: Sendable, Hashable {
    /// As `out x in`.
    case straight
    /// As `in x out`.
    case transposed
    /// As the model's class says: `in x out` where it is marked so.
    case asMarked
    /// Nobody knows.
    case unknown
  }

  /// `out x (rank · experts)`, or expert-major `(experts · out) x rank`.
  public var up: Factor
  /// `(experts · rank) x in`.
  public var down: Factor
  private let expertRank: Int
  let square: SquareRule
  let isExpertMajor: Bool
  private var isTransposed = false

  /// Describes a stack.
  ///
  /// - Parameters:
  ///   - up: `out x (rank · experts)`, the expert fastest.
  ///   - down: `(experts · rank) x in`.
  ///   - rank: The rank of one expert; divides the rows of `down`.
  ///   - square: What holds for square experts.
  ///   - isExpertMajor: Whether `up` is `(experts · out) x rank` instead, as in MLX.
  /// - Throws: `adapter.shape` where the rank is zero, `adapter.dtype`.
  public init(
    up: Factor, down: Factor, rank: Int, square: SquareRule, isExpertMajor: Bool = false
  ) throws(SurgeryError) {
    guard rank > 0 else {
      throw SurgeryError.adapter(
        "shape", "the factors of a stack have rank 0", file: down.tensor.source.file.path,
        key: down.tensor.name.text, found: "\(down.tensor.info.shape)")
    }
    for factor in [up, down] where !factor.dtype.isFloatingPoint { throw factor.notFloating }
    self.up = up
    self.down = down
    self.square = square
    self.isExpertMajor = isExpertMajor
    expertRank = rank
  }

  /// The change `left · right` of every matrix as it is stored, with the factors of one expert after those of the other.
  ///
  /// - Parameters:
  ///   - left: `(experts · rows) x rank`.
  ///   - right: `(experts · rank) x columns`.
  ///   - stack: The stack.
  /// - Throws: `adapter.dtype`.
  public init(left: Factor, right: Factor, of stack: ExpertStack) throws(SurgeryError) {
    let (up, down) =
      stack.isTransposed
      ? (right.transposed(matrices: stack.count), left.transposed(matrices: stack.count))
      : (left, right)
    try self.init(
      up: up, down: down, rank: left.columns,
      square: stack.isTransposed ? .transposed : .straight, isExpertMajor: true)
    isTransposed = stack.isTransposed
  }

  /// LoRA.
  public var algorithm: String { "lora" }
  /// A stack of experts.
  public var summary: String { "a change of a stack of experts" }
  /// Matrices in the stack.
  public var experts: Int { down.rows / expertRank }
  /// All rows of the stack.
  public var rows: Int { experts * (isTransposed ? down.columns : outputs) }
  /// Columns of each matrix.
  public var columns: Int { isTransposed ? outputs : down.columns }
  private var outputs: Int { isExpertMajor ? up.rows / max(experts, 1) : up.rows }
  /// The rank of one expert.
  public var rank: Int? { expertRank }
  /// The rank of one expert.
  public var productRank: Int? { expertRank }
  /// Both factors.
  public var factors: [Factor] { [down, up] }

  /// Decides from the stack's shape which way its matrices lie.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    let (out, inputs) = (outputs, down.columns)
    let dimensions = target.shape.dimensions
    guard dimensions.count == 3, dimensions[0] == experts else { throw mismatch(target) }
    let straight = dimensions[1] == out && dimensions[2] == inputs
    let transposed = dimensions[1] == inputs && dimensions[2] == out
    guard straight || transposed else { throw mismatch(target) }
    var fitted = self
    if straight && transposed {
      switch target.saidTransposed.map({ $0 ? SquareRule.transposed : .straight }) ?? square {
      case .straight: fitted.isTransposed = false
      case .asMarked: fitted.isTransposed = target.hasTransposedExperts
      case .transposed: fitted.isTransposed = true
      case .unknown:
        throw SurgeryError.adapter(
          "ambiguous-orientation", "square experts: the file does not say which way they lie",
          key: down.tensor.name.text, expected: "peft_version in adapter_config.json",
          found: "\(target.shape) of \(target.name.text)",
          hint: "--fan-in-fan-out says how the target is stored")
      }
    } else {
      fitted.isTransposed = transposed
    }
    return FittedUpdate(
      update: fitted, isTransposed: false, storedRows: dimensions[0] * dimensions[1])
  }

  private func mismatch(_ target: FittingTarget) -> SurgeryError {
    .adapter(
      "shape", "the adapter does not fit the base",
      expected: "\(target.shape) of base tensor \(target.name.text)",
      found: "\(experts, counting: "expert") of \(outputs) x \(down.columns) (out x in)",
      hint: "use the base that the adapter was trained on")
  }

  /// `up` with the expert fastest, `out x (rank · experts)`, as PEFT stores it.
  var upByRank: Factor {
    guard isExpertMajor else { return up }
    return up.reshaped(rows: experts, columns: outputs * expertRank).transposed()
      .reshaped(rows: outputs, columns: expertRank * experts)
  }

  /// `up` with one expert after the other, `(experts · out) x rank`.
  private var upByExpert: Factor {
    if isExpertMajor { return up }
    return up.reshaped(rows: outputs * expertRank, columns: experts).transposed()
      .reshaped(rows: experts * outputs, columns: expertRank)
  }

  /// The same change of a stack, once fitted, with factors for matrices that lie as a model's class says.
  ///
  /// - Parameter stack: The stack that the change was fitted to.
  /// - Returns: The change.
  /// - Throws: `adapter.dtype`.
  public func oriented(as stack: ExpertStack) throws(SurgeryError) -> StackedLowRank {
    if isTransposed == stack.isTransposed { return self }
    var turned = try StackedLowRank(
      up: down.transposed(matrices: experts), down: upByExpert.transposed(matrices: experts),
      rank: expertRank, square: stack.isTransposed ? .transposed : .straight, isExpertMajor: true)
    turned.isTransposed = stack.isTransposed
    return turned
  }

  /// The change of some rows of one expert, once fitted; `nil` where the rows are of several.
  func slice(rows: Range<Int>) -> LowRank? {
    let height = self.rows / max(experts, 1)
    guard height > 0, !rows.isEmpty, rows.upperBound <= self.rows,
      rows.lowerBound / height == (rows.upperBound - 1) / height
    else { return nil }
    let expert = rows.lowerBound / height
    let first = rows.lowerBound - expert * height
    let own = upByExpert.rows((expert * outputs)..<((expert + 1) * outputs))
    let inner = down.rows((expert * expertRank)..<((expert + 1) * expertRank))
    let (upper, lower) =
      isTransposed ? (inner.transposed(), own.transposed()) : (own, inner)
    return try? LowRank(up: upper.rows(first..<(first + rows.count)), down: lower)
  }

  /// Reads both factors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    let down = try down.matrix(of: Scalar.self)
    let up = try up.matrix(of: Scalar.self)
    var deltas: [LoadedLowRank<Scalar>] = []
    for expert in 0..<experts {
      let own = upper(of: expert, up)
      let rows = (expert * expertRank)..<((expert + 1) * expertRank)
      let first = down.block(rows: rows, columns: 0..<down.columns)
      deltas.append(
        isTransposed
          ? LoadedLowRank(up: first.transposed(), down: own.transposed(), scale: scale)
          : LoadedLowRank(up: own, down: first, scale: scale))
    }
    return LoadedStack<Scalar>(experts: deltas, height: rows / max(experts, 1))
  }

  /// Reads the factors of every matrix, `out x in` whichever way the stack holds it.
  public func products<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> [Factors<Scalar>]? {
    let (up, down) = (try up.matrix(of: Scalar.self), try down.matrix(of: Scalar.self))
    return (0..<experts).map { expert in
      let rows = (expert * expertRank)..<((expert + 1) * expertRank)
      return Factors(
        up: upper(of: expert, up), down: down.block(rows: rows, columns: 0..<down.columns))
    }
  }

  /// The stack with other factors, of one matrix after the other.
  public func replacingProducts(
    up: Factor, down: Factor, form: LowRank.Form
  ) throws(SurgeryError) -> any Update {
    var replaced = try StackedLowRank(
      up: up, down: down, rank: up.columns, square: square, isExpertMajor: true)
    replaced.isTransposed = isTransposed
    return replaced
  }

  /// Whether the matrices of both lie the same way in a stack of the same shape, as far as the factors say.
  public func isStacked(like other: StackedLowRank) -> Bool {
    experts == other.experts && outputs == other.outputs && down.columns == other.down.columns
      && isTransposed == other.isTransposed && (outputs != down.columns || square == other.square)
  }

  private func upper<Scalar: BLASScalar>(of expert: Int, _ up: Matrix<Scalar>) -> Matrix<Scalar> {
    if isExpertMajor {
      return up.block(
        rows: (expert * outputs)..<((expert + 1) * outputs), columns: 0..<expertRank)
    }
    var own = Matrix<Scalar>(rows: outputs, columns: expertRank)
    for row in 0..<outputs {
      for column in 0..<expertRank { own[row, column] = up[row, column * experts + expert] }
    }
    return own
  }
}

/// A stack of low-rank changes in memory.
struct LoadedStack<Scalar: BLASScalar>: AdditiveUpdate {
  let experts: [LoadedLowRank<Scalar>]
  let height: Int

  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar> {
    var elements: [Scalar] = []
    elements.reserveCapacity(rows.count * columns.count)
    var row = rows.lowerBound
    while row < rows.upperBound {
      let (expert, first) = row.quotientAndRemainder(dividingBy: height)
      let count = min(height - first, rows.upperBound - row)
      elements += experts[expert].change(rows: first..<(first + count), columns: columns).elements
      row += count
    }
    return Matrix(rows: rows.count, columns: columns.count, elements: elements)
  }
}
