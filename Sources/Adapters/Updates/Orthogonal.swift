import Checkpoints
public import LinearAlgebra
public import Tensors

/// OFT: the weight is multiplied by block-diagonal rotations.
///
/// Qiu et al. 2023, arXiv:2306.07280. The families differ in side, sign and parametrisation, and are never interchangeable: PEFT rotates inputs,
/// `W' = W · blockdiag(R)ᵀ` (peft:src/peft/tuners/oft/layer.py); kohya and LyCORIS rotate outputs, `W'_k = R_kᵀ · W_k`
/// (sd-scripts:networks/oft.py, LyCORIS:lycoris/modules/diag_oft.py).
public struct Orthogonal: Update {
  /// Which side of the weight is rotated.
  public enum Side: Sendable, Hashable {
    /// `W · blockdiag(R)ᵀ`.
    case inputs
    /// `R_kᵀ · W_k` for each block of rows.
    case outputs
  }

  /// How a block's skew-symmetric `Q` is stored.
  public enum Storage: Sendable, Hashable {
    /// The strict upper triangle, row after row; one stored block may serve all.
    case triangle
    /// A square matrix `X` with `Q = X - Xᵀ`.
    case difference
  }

  /// How `R` is made of `Q`.
  public enum CayleyMap: Sendable, Hashable {
    /// `I + 2Q + 2Q² + … + Q^(n-1)`: this many terms.
    case neumann(terms: Int)
    /// `(I - Q)(I + Q)⁻¹`.
    case minusPlus
    /// `(I + Q)(I - Q)⁻¹`.
    case plusMinus
  }

  /// A limit of the norm of `Q`.
  public enum Limit: Sendable, Hashable {
    /// None.
    case none
    /// Of each block's norm.
    case eachBlock(Double)
    /// Of the norm of all blocks together.
    case allBlocks(Double)
  }

  /// Terms of a series; those beyond are below the precision of what they are added to.
  static let maximumTerms = 1024

  /// One row of parameters for each block.
  public var blocks: Factor
  /// Rows and columns of a block.
  public var blockSize: Int
  /// Which side is rotated.
  public var side: Side
  /// How `Q` is stored.
  public var storage: Storage
  /// How `R` is made of it.
  public var map: CayleyMap
  /// The limit of its norm.
  public var limit: Limit
  /// A factor for each output, after the rotation.
  public var rescale: Factor?
  private var size: (rows: Int, columns: Int) = (0, 0)

  /// Describes rotations.
  ///
  /// - Parameters:
  ///   - blocks: One row of parameters for each block.
  ///   - blockSize: Rows and columns of a block.
  ///   - side: Which side is rotated.
  ///   - storage: How `Q` is stored.
  ///   - map: How `R` is made of it.
  ///   - limit: The limit of its norm.
  ///   - rescale: A factor for each output.
  /// - Throws: `adapter.shape` or `adapter.dtype`.
  public init(
    blocks: Factor, blockSize: Int, side: Side, storage: Storage, map: CayleyMap,
    limit: Limit = .none, rescale: Factor? = nil
  ) throws(SurgeryError) {
    let expected =
      storage == .triangle ? blockSize * (blockSize - 1) / 2 : blockSize * blockSize
    guard blocks.columns == expected else {
      throw SurgeryError.adapter(
        "shape", "the parameters of a rotation do not fit its block size",
        file: blocks.tensor.source.file.path, key: blocks.tensor.name.text,
        expected: "\(expected) for blocks of \(blockSize)", found: "\(blocks.tensor.info.shape)")
    }
    for factor in [blocks] + (rescale.map { [$0] } ?? []) where !factor.dtype.isFloatingPoint {
      throw factor.notFloating
    }
    self.blocks = blocks
    self.blockSize = blockSize
    self.side = side
    self.storage = storage
    self.map = map
    self.limit = limit
    self.rescale = rescale
  }

  /// OFT.
  public var algorithm: String { "oft" }
  /// Outputs, once fitted.
  public var rows: Int { size.rows }
  /// Inputs, once fitted.
  public var columns: Int { size.columns }
  /// Not additive.
  public var isAdditive: Bool { false }
  /// The parameters.
  public var factors: [Factor] { [blocks] + (rescale.map { [$0] } ?? []) }
  /// All of the side that is rotated.
  public var need: BlockNeed { side == .inputs ? .wholeRows : .wholeColumns }

  /// Takes the size of the other side from the target.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    let (isTransposed, rows, columns) = target.declaredOrientation()
    let rotated = side == .inputs ? columns : rows
    let isShared = storage == .triangle && blocks.rows == 1
    guard isShared ? rotated % blockSize == 0 : rotated == blocks.rows * blockSize else {
      throw target.mismatch(
        side == .inputs ? rows : blocks.rows * blockSize,
        side == .inputs ? blocks.rows * blockSize : columns)
    }
    if let rescale, rescale.count != rows { throw target.mismatch(rescale.count, columns) }
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
    var skews = (0..<stored.rows).map { skew(stored, block: $0) }
    limitNorms(&skews)
    let turned = try skews.map { (skew) throws(SurgeryError) in
      guard let rotation = rotation(skew) else { throw blocks.tooLargeToRotate }
      // What stands left of a block of rows, or right of a block of columns.
      return rotation.transposed()
    }
    return LoadedRotation<Scalar>(
      rotations: turned, blockSize: blockSize, side: side, scale: scale,
      rescale: try rescale?.matrix(of: Double.self).elements)
  }

  private func skew(_ stored: Matrix<Double>, block: Int) -> Matrix<Double> {
    switch storage {
    case .triangle:
      var q = Matrix<Double>(rows: blockSize, columns: blockSize)
      var position = 0
      for i in 0..<blockSize {
        for j in (i + 1)..<max(blockSize, i + 1) {
          q[i, j] = stored[block, position]
          q[j, i] = -stored[block, position]
          position += 1
        }
      }
      return q
    case .difference: return Matrix(skewOf: stored, block: block, size: blockSize)
    }
  }

  private func limitNorms(_ blocks: inout [Matrix<Double>]) {
    switch limit {
    case .none: return
    case .eachBlock(let most):
      for index in blocks.indices {
        var block = [blocks[index]]
        block.limitNorm(to: most)
        blocks[index] = block[0]
      }
    case .allBlocks(let most): blocks.limitNorm(to: most)
    }
  }

  private func rotation(_ q: Matrix<Double>) -> Matrix<Double>? {
    switch map {
    case .minusPlus:
      var negative = q
      negative.scale(by: -1)
      return negative.cayleyRotation()
    case .plusMinus: return q.cayleyRotation()
    case .neumann(let terms):
      // The last power has coefficient 1; two terms stop at I + 2Q, and three give the same as four.
      var result = Matrix<Double>.identity(q.rows)
      result.add(q, times: 2)
      if terms <= 2 { return result }
      var power = product(q, q)
      result.add(power, times: 2)
      for _ in stride(from: 3, to: max(terms, 4) - 1, by: 1) {
        power = product(power, q)
        result.add(power, times: 2)
      }
      power = product(power, q)
      result.add(power, times: 1)
      return result
    }
  }
}

/// Rotations in memory.
struct LoadedRotation<Scalar: BLASScalar>: LoadedUpdate {
  /// `Rᵀ` of each block; one may serve all.
  let rotations: [Matrix<Double>]
  let blockSize: Int
  let side: Orthogonal.Side
  let scale: Double
  let rescale: [Double]?

  private func turned(_ block: Int, _ weight: Double) -> Matrix<Double> {
    rotations[rotations.count == 1 ? 0 : block].applied(strength: weight * scale)
  }

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    rotate(&block) { turned($0, weight) }
    if let rescale {
      // LyCORIS applies the strength to the rotation alone.
      block.multiplyRows(by: rows.map { Scalar(rescale[$0]) })
    }
  }

  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    if let rescale {
      guard rescale.allSatisfy({ $0 != 0 }) else {
        throw SurgeryError.notInvertible("a factor is zero")
      }
      block.multiplyRows(by: rows.map { Scalar(1 / rescale[$0]) })
    }
    var inverses: [Matrix<Double>] = []
    for index in rotations.indices {
      guard let inverse = turned(index, weight).inverted() else {
        throw SurgeryError.notInvertible("a block of the rotation is singular")
      }
      inverses.append(inverse)
    }
    rotate(&block) { inverses[inverses.count == 1 ? 0 : $0] }
  }

  private func rotate(_ block: inout Matrix<Scalar>, _ matrix: (Int) -> Matrix<Double>) {
    switch side {
    case .outputs:
      for index in 0..<(block.rows / blockSize) {
        let rows = (index * blockSize)..<((index + 1) * blockSize)
        let part = block.block(rows: rows, columns: 0..<block.columns)
        block.replaceRows(
          from: rows.lowerBound, with: product(matrix(index).converted(to: Scalar.self), part))
      }
    case .inputs:
      for index in 0..<(block.columns / blockSize) {
        let columns = (index * blockSize)..<((index + 1) * blockSize)
        let part = block.block(rows: 0..<block.rows, columns: columns)
        block.replaceColumns(
          from: columns.lowerBound, with: product(part, matrix(index).converted(to: Scalar.self)))
      }
    }
  }

  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? { nil }
}
