import Checkpoints
public import LinearAlgebra
public import Tensors

/// GLoRA: `W + s · (up · down + W · first · second)`, of which the second part depends on the weight.
///
/// Chavan et al. 2023, arXiv:2306.07967; LyCORIS:lycoris/modules/glora.py. In a convolution the product with the weight runs over
/// its input channels.
public struct GeneralisedLowRank: Update {
  /// The part that does not depend on the weight.
  public var pair: LowRank
  /// What the weight is multiplied by: `in x rank` and `rank x in`.
  public var mixing: LowRank

  /// Describes the two parts.
  ///
  /// - Parameters:
  ///   - pair: The part that does not depend on the weight.
  ///   - mixing: What the weight is multiplied by, square.
  /// - Throws: `adapter.shape`.
  public init(_ pair: LowRank, mixing: LowRank) throws(SurgeryError) {
    guard mixing.rows == mixing.columns, mixing.rows > 0, pair.columns % mixing.rows == 0 else {
      throw SurgeryError.adapter(
        "shape", "the parts of a GLoRA do not fit each other", key: mixing.up.tensor.name.text,
        expected: "in x in for \(pair.columns) columns",
        found: "\(mixing.rows) x \(mixing.columns)")
    }
    self.pair = pair
    self.mixing = mixing
  }

  /// GLoRA.
  public var algorithm: String { "glora" }
  /// Outputs.
  public var rows: Int { pair.rows }
  /// Inputs, kernel included.
  public var columns: Int { pair.columns }
  /// The rank of the first part.
  public var rank: Int? { pair.rank }
  /// Not additive.
  public var isAdditive: Bool { false }
  /// Rows are mixed whole.
  public var need: BlockNeed { .wholeRows }
  /// All factors.
  public var factors: [Factor] { pair.factors + mixing.factors }
  /// Not computed.
  public var inversion: Inversion {
    .impossible("GLoRA's product with the weight is not solved for the weight")
  }

  /// Reads the factors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    LoadedGeneralised(
      pair: try pair.loadedFactors(scale: scale, as: Scalar.self),
      mixing: try mixing.loadedFactors(scale: 1, as: Scalar.self), scale: scale)
  }
}

/// The two parts of a GLoRA in memory.
struct LoadedGeneralised<Scalar: BLASScalar>: LoadedUpdate {
  let pair: LoadedLowRank<Scalar>
  let mixing: LoadedLowRank<Scalar>
  let scale: Double

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    let inputs = mixing.up.rows
    let kernel = block.columns / inputs
    var mixed = Matrix<Scalar>(rows: block.rows, columns: block.columns)
    for place in 0..<kernel {
      var plane = Matrix<Scalar>(rows: block.rows, columns: inputs)
      for row in 0..<block.rows {
        for input in 0..<inputs { plane[row, input] = block[row, input * kernel + place] }
      }
      let product = LinearAlgebra.product(
        LinearAlgebra.product(plane, mixing.up), mixing.down)
      for row in 0..<block.rows {
        for input in 0..<inputs { mixed[row, input * kernel + place] = product[row, input] }
      }
    }
    pair.apply(to: &block, rows: rows, columns: columns, weight: weight)
    block.add(mixed, times: Scalar(scale * weight))
  }

  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    throw SurgeryError.notInvertible("GLoRA's product with the weight is not solved")
  }

  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? { nil }
}
