import Checkpoints
public import LinearAlgebra
public import Tensors

/// LoHa: `W + s · (first ⊙ second)`, the elementwise product of two low-rank matrices.
///
/// Hyeon-Woo et al. 2022, arXiv:2108.06098; LyCORIS:lycoris/modules/loha.py, peft:src/peft/tuners/loha/layer.py.
public struct Hadamard: Update {
  /// The first matrix; its core is the Tucker form's `hada_t1`.
  public var first: LowRank
  /// The second matrix.
  public var second: LowRank

  /// Describes the product.
  ///
  /// - Parameters:
  ///   - first: The first matrix.
  ///   - second: A matrix of the same shape.
  /// - Throws: `adapter.shape`.
  public init(_ first: LowRank, _ second: LowRank) throws(SurgeryError) {
    guard first.rows == second.rows, first.columns == second.columns else {
      throw SurgeryError.adapter(
        "shape", "the two matrices of a LoHa differ in shape", key: first.up.tensor.name.text,
        expected: "\(first.rows) x \(first.columns)",
        found: "\(second.rows) x \(second.columns)")
    }
    self.first = first
    self.second = second
  }

  /// LoHa.
  public var algorithm: String { "loha" }
  /// Outputs.
  public var rows: Int { first.rows }
  /// Inputs, kernel included.
  public var columns: Int { first.columns }
  /// The rank of each matrix.
  public var rank: Int? { first.rank }
  /// All factors.
  public var factors: [Factor] { first.factors + second.factors }

  /// Reads the factors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    LoadedHadamard(
      first: try first.loadedFactors(scale: scale, as: Scalar.self),
      second: try second.loadedFactors(scale: 1, as: Scalar.self))
  }
}

/// The two matrices of a LoHa in memory.
struct LoadedHadamard<Scalar: BLASScalar>: AdditiveUpdate {
  let first: LoadedLowRank<Scalar>
  let second: LoadedLowRank<Scalar>

  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar> {
    var result = first.change(rows: rows, columns: columns)
    result.multiply(by: second.change(rows: rows, columns: columns))
    return result
  }
}
