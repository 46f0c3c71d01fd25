public import LinearAlgebra
public import Tensors

/// loralib's ConvLoRA: a product of `out · k` rows read, element after element, as the kernel `out x (in · k · k)`
/// (LoRA:loralib/layers.py, `ConvLoRA`); not the product of factors that other libraries mean.
public struct ReinterpretedLowRank: Update {
  /// The product before it is read anew.
  public var factors2D: LowRank
  /// Rows of the product that make one row of the kernel.
  public var rowsPerOutput: Int

  /// Describes a reinterpreted product.
  ///
  /// - Parameters:
  ///   - factors: The product.
  ///   - rowsPerOutput: Divides the product's rows.
  public init(_ factors: LowRank, rowsPerOutput: Int) {
    factors2D = factors
    self.rowsPerOutput = rowsPerOutput
  }

  /// LoRA.
  public var algorithm: String { "lora" }
  /// A convolution of loralib.
  public var summary: String { "loralib's change of a convolution" }
  /// Outputs.
  public var rows: Int { factors2D.rows / rowsPerOutput }
  /// Inputs, kernel included.
  public var columns: Int { factors2D.columns * rowsPerOutput }
  /// The rank that the author gave, which the factors have times the kernel's size.
  public var rank: Int? { factors2D.up.columns / rowsPerOutput }
  /// The factors.
  public var factors: [Factor] { factors2D.factors }

  /// Reads the factors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    LoadedReinterpretation(
      product: try factors2D.loadedFactors(scale: scale, as: Scalar.self),
      rowsPerOutput: rowsPerOutput)
  }
}

/// A product to be read anew, in memory.
struct LoadedReinterpretation<Scalar: BLASScalar>: AdditiveUpdate {
  let product: LoadedLowRank<Scalar>
  let rowsPerOutput: Int

  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar> {
    let all = product.change(
      rows: (rows.lowerBound * rowsPerOutput)..<(rows.upperBound * rowsPerOutput),
      columns: 0..<product.down.columns)
    let width = product.down.columns * rowsPerOutput
    return Matrix(rows: rows.count, columns: width, elements: all.elements)
      .block(rows: 0..<rows.count, columns: columns)
  }
}
