public import LinearAlgebra
public import Tensors

/// Low-rank changes of some rows of a fused projection, zero elsewhere: loralib's MergedLinear
/// (LoRA:loralib/layers.py, `MergedLinear.merge_AB`).
public struct PartedLowRank: Update {
  /// The parts with the rows that each changes.
  public var parts: [(rows: Range<Int>, update: LowRank)]
  /// All rows of the fused projection.
  public var rows: Int

  /// Describes a fused change.
  ///
  /// - Parameters:
  ///   - parts: The parts with the rows that each changes; equal in width.
  ///   - rows: All rows of the fused projection.
  public init(parts: [(rows: Range<Int>, update: LowRank)], rows: Int) {
    self.parts = parts
    self.rows = rows
  }

  /// LoRA.
  public var algorithm: String { "lora" }
  /// Parts of a fused projection.
  public var summary: String { "a change of parts of a fused projection" }
  /// Inputs.
  public var columns: Int { parts.first?.update.columns ?? 0 }
  /// The rank of a part.
  public var rank: Int? { parts.first?.update.rank }
  /// The ranks of all parts together.
  public var productRank: Int? { parts.reduce(0) { $0 + $1.update.up.columns } }
  /// The factors of all parts.
  public var factors: [Factor] { parts.flatMap(\.update.factors) }

  /// Reads the factors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    var loaded: [(rows: Range<Int>, factors: LoadedLowRank<Scalar>)] = []
    for part in parts {
      loaded.append((part.rows, try part.update.loadedFactors(scale: scale, as: Scalar.self)))
    }
    return LoadedParts(parts: loaded)
  }

  /// Reads the factors; in `up` each part has columns of its own, zero outside its rows.
  public func products<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> [Factors<Scalar>]? {
    var up = Matrix<Scalar>(rows: rows, columns: productRank ?? 0)
    var down: [Matrix<Scalar>] = []
    var column = 0
    for (own, update) in parts {
      let part = try update.product(as: Scalar.self)
      for row in own {
        for k in 0..<part.rank { up[row, column + k] = part.up[row - own.lowerBound, k] }
      }
      down.append(part.down)
      column += part.rank
    }
    return [Factors(up: up, down: Matrix(stacking: down))]
  }
}

/// The parts of a fused change in memory.
struct LoadedParts<Scalar: BLASScalar>: AdditiveUpdate {
  let parts: [(rows: Range<Int>, factors: LoadedLowRank<Scalar>)]

  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar> {
    var result = Matrix<Scalar>(rows: rows.count, columns: columns.count)
    for (own, factors) in parts {
      let common = rows.clamped(to: own)
      if common.isEmpty { continue }
      let first = common.lowerBound - own.lowerBound
      result.replaceRows(
        from: common.lowerBound - rows.lowerBound,
        with: factors.change(rows: first..<(first + common.count), columns: columns))
    }
    return result
  }
}
