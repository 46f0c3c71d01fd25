import Checkpoints
public import LinearAlgebra
public import Tensors

/// BOFT: the weight is multiplied by several stages of block-diagonal rotations, each in an order of its own.
///
/// Liu et al. 2023, arXiv:2311.06243. PEFT rotates inputs, `W' = (M Wᵀ)ᵀ ⊙ s` (peft:src/peft/tuners/boft/layer.py); LyCORIS rotates outputs,
/// `W' = M W · rescale` (LyCORIS:lycoris/functional/boft.py).
public struct Butterfly: Update {
  /// Whose parametrisation it is.
  public enum Convention: Sendable, Hashable {
    /// Inputs; `S = (X - Xᵀ) / 2`, `R = (I - S)(I + S)⁻¹`.
    case peft
    /// Outputs; `Q = X - Xᵀ`, its norm limited, `R = (I + Q)(I - Q)⁻¹`.
    case lycoris(limit: Double?)
  }

  /// One row of `size²` parameters for each block, stage after stage.
  public var blocks: Factor
  /// Stages.
  public let stages: Int
  /// Rows and columns of a block; even where there are several stages.
  public let blockSize: Int
  /// Whose parametrisation it is.
  public let convention: Convention
  /// A factor for each output, after the rotations.
  public var rescale: Factor?
  private var size: (rows: Int, columns: Int) = (0, 0)

  /// Describes stages of rotations.
  ///
  /// - Parameters:
  ///   - blocks: One row of parameters for each block, stage after stage.
  ///   - stages: Stages.
  ///   - blockSize: Rows and columns of a block.
  ///   - convention: Whose parametrisation it is.
  ///   - rescale: A factor for each output.
  /// - Throws: `adapter.shape` or `adapter.dtype`.
  public init(
    blocks: Factor, stages: Int, blockSize: Int, convention: Convention, rescale: Factor? = nil
  ) throws(SurgeryError) {
    for factor in [blocks] + (rescale.map { [$0] } ?? []) where !factor.dtype.isFloatingPoint {
      throw factor.notFloating
    }
    // Each stage doubles the rows that are mixed.
    guard stages > 0, stages <= 30, blockSize > 0, blockSize < 1 << 24,
      blocks.columns == blockSize * blockSize,
      blocks.rows.isMultiple(of: stages)
    else {
      throw SurgeryError.adapter(
        "shape", "the blocks of a rotation must be square", file: blocks.tensor.source.file.path,
        key: blocks.tensor.name.text, expected: "stages x blocks x size x size",
        found: "\(blocks.tensor.info.shape)")
    }
    self.blocks = blocks
    self.stages = stages
    self.blockSize = blockSize
    self.convention = convention
    self.rescale = rescale
  }

  /// BOFT.
  public var algorithm: String { "boft" }
  /// Outputs, once fitted.
  public var rows: Int { size.rows }
  /// Inputs, once fitted.
  public var columns: Int { size.columns }
  /// Not additive.
  public var isAdditive: Bool { false }
  /// The parameters.
  public var factors: [Factor] { [blocks] + (rescale.map { [$0] } ?? []) }
  /// All of the side that is rotated.
  public var need: BlockNeed { convention == .peft ? .wholeRows : .wholeColumns }

  /// Takes the size of the other side from the target.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    let (isTransposed, rows, columns) = target.declaredOrientation()
    let rotated = blocks.rows / stages * blockSize
    guard convention == .peft ? rotated == columns : rotated == rows else {
      throw target.mismatch(
        convention == .peft ? rows : rotated, convention == .peft ? rotated : columns)
    }
    if let rescale, rescale.count != rows { throw target.mismatch(rescale.count, columns) }
    for stage in 1..<max(stages, 1) where !rotated.isMultiple(of: blockSize << stage) {
      throw target.mismatch(rows, columns)
    }
    var fitted = self
    fitted.size = (rows, columns)
    return FittedUpdate(update: fitted, isTransposed: isTransposed)
  }

  /// Reads the parameters and makes the rotations, in double precision.
  ///
  /// - Throws: What reading throws; `adapter.rotation`.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    let stored = try blocks.matrix(of: Double.self)
    var skews = (0..<stored.rows).map { Matrix(skewOf: stored, block: $0, size: blockSize) }
    let count = stored.rows / stages
    var stagesMade: [LoadedButterfly<Scalar>.Stage] = []
    switch convention {
    case .peft: for index in skews.indices { skews[index].scale(by: -0.5) }
    case .lycoris(let limit): if let limit { skews.limitNorm(to: limit) }
    }
    let rotations = try skews.map { (skew) throws(SurgeryError) in
      guard let rotation = skew.cayleyRotation() else { throw blocks.tooLargeToRotate }
      return rotation
    }
    for stage in 0..<stages {
      stagesMade.append(
        .init(
          order: order(of: stage, size: count * blockSize),
          rotations: Array(rotations[(stage * count)..<((stage + 1) * count)])))
    }
    return LoadedButterfly(
      stages: stagesMade, turnsInputs: convention == .peft, scale: scale,
      rescale: try rescale?.matrix(of: Double.self).elements)
  }

  /// For each place in the blocks of a stage, the row that stands there.
  private func order(of stage: Int, size: Int) -> [Int] {
    let half = blockSize / 2
    switch convention {
    case .lycoris:
      // Neighbours are rows that lie half a segment apart.
      let span = (1 << stage) * half
      return (0..<size).map { place in
        let (segment, within) = place.quotientAndRemainder(dividingBy: 2 * span)
        return segment * 2 * span + within % 2 * span + within / 2
      }
    case .peft:
      if stages == 1 { return Array(0..<size) }
      // Within a segment the half-blocks of even places come first, then the odd ones; the blocks see that order undone
      // (`block_butterfly_perm`).
      let length = blockSize << stage
      var sorted: [Int] = []
      for segment in stride(from: 0, to: size, by: length) {
        for parity in 0..<2 {
          for block in stride(from: parity, to: length / half, by: 2) {
            sorted += (segment + block * half)..<(segment + (block + 1) * half)
          }
        }
      }
      var order = [Int](repeating: 0, count: size)
      for (place, row) in sorted.enumerated() { order[row] = place }
      return order
    }
  }
}

/// Stages of rotations in memory.
struct LoadedButterfly<Scalar: BLASScalar>: LoadedUpdate {
  struct Stage: Sendable {
    let order: [Int]
    let rotations: [Matrix<Double>]
  }

  let stages: [Stage]
  let turnsInputs: Bool
  let scale: Double
  let rescale: [Double]?

  /// The factor of an output.
  ///
  /// PEFT knows no strength, LyCORIS applies it to the rotations alone.
  private func factor(_ row: Int, _ weight: Double) -> Double? {
    rescale.map { turnsInputs ? 1 + weight * scale * ($0[row] - 1) : $0[row] }
  }

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    turn(&block) { sides in
      for stage in stages {
        Self.rotate(
          &sides, stage.order, stage.rotations.map { $0.applied(strength: weight * scale) })
      }
    }
    if rescale != nil {
      block.multiplyRows(by: rows.map { Scalar(factor($0, weight) ?? 1) })
    }
  }

  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    if rescale != nil {
      let factors = rows.map { factor($0, weight) ?? 1 }
      guard factors.allSatisfy({ $0 != 0 }) else {
        throw SurgeryError.notInvertible("a factor is zero")
      }
      block.multiplyRows(by: factors.map { Scalar(1 / $0) })
    }
    var inverses: [[Matrix<Double>]] = []
    for stage in stages {
      inverses.append(
        try stage.rotations.map { (rotation) throws(SurgeryError) in
          guard let inverse = rotation.applied(strength: weight * scale).inverted() else {
            throw SurgeryError.notInvertible("a block of the rotation is singular")
          }
          return inverse
        })
    }
    turn(&block) { sides in
      for (stage, matrices) in zip(stages, inverses).reversed() {
        Self.rotate(&sides, stage.order, matrices)
      }
    }
  }

  /// Lends the block with the side to be rotated as rows.
  private func turn(_ block: inout Matrix<Scalar>, _ body: (inout Matrix<Scalar>) -> Void) {
    guard turnsInputs else { return body(&block) }
    block = block.transposed()
    body(&block)
    block = block.transposed()
  }

  private static func rotate(
    _ block: inout Matrix<Scalar>, _ order: [Int], _ matrices: [Matrix<Double>]
  ) {
    guard let size = matrices.first?.rows else { return }
    let source = block
    for (index, matrix) in matrices.enumerated() {
      let places = order[(index * size)..<((index + 1) * size)]
      var part = Matrix<Scalar>(rows: size, columns: block.columns)
      for (row, place) in places.enumerated() {
        part.replaceRows(
          from: row, with: source.block(rows: place..<(place + 1), columns: 0..<block.columns))
      }
      let turned = product(matrix.converted(to: Scalar.self), part)
      for (row, place) in places.enumerated() {
        block.replaceRows(
          from: place, with: turned.block(rows: row..<(row + 1), columns: 0..<block.columns))
      }
    }
  }

  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? { nil }
}
