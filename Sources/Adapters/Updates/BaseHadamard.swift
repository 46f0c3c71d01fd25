public import LinearAlgebra
public import Tensors

/// HiRA: `W + W ⊙ (up · down)`, a change in proportion to the base.
///
/// Huang et al. 2025; peft:src/peft/tuners/hira/layer.py.
public struct BaseHadamard: Update {
  /// The factor of the base, less 1.
  public var factor: LowRank

  /// Describes a multiplication of the base.
  public init(_ factor: LowRank) { self.factor = factor }

  /// HiRA.
  public var algorithm: String { "hira" }
  /// Outputs.
  public var rows: Int { factor.rows }
  /// Inputs.
  public var columns: Int { factor.columns }
  /// The rank of the factor.
  public var rank: Int? { factor.rank }
  /// Not additive.
  public var isAdditive: Bool { false }
  /// The factors.
  public var factors: [Factor] { factor.factors }

  /// Reads the factors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    LoadedBaseHadamard(factor: try factor.loadedFactors(scale: scale, as: Scalar.self))
  }
}

/// HiRA's factors in memory.
struct LoadedBaseHadamard<Scalar: BLASScalar>: LoadedUpdate {
  let factor: LoadedLowRank<Scalar>

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    block.multiply(
      by: factor.change(rows: rows, columns: columns).mapped { 1 + Scalar(weight) * $0 })
  }

  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    let factors = factor.change(rows: rows, columns: columns).mapped { 1 + Scalar(weight) * $0 }
    guard factors.elements.allSatisfy({ $0 != 0 }) else {
      throw SurgeryError.notInvertible("HiRA multiplies an element by zero")
    }
    block.multiply(by: factors.mapped { 1 / $0 })
  }

  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? { nil }
}
