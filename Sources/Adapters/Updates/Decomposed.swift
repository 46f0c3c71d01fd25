import Checkpoints
public import LinearAlgebra
public import Tensors

/// DoRA: the direction of a sum, with magnitudes of its own.
///
/// Liu et al. 2024, arXiv:2402.09353. `V = W + s · delta`, then every row (or column) of `V` is scaled so that its norm is the stored magnitude. The axis and
/// the meaning of a weight other than 1 are those of the dialect.
public struct Decomposed: Update {
  /// What has a magnitude each.
  public enum Axis: Sendable, Hashable {
    /// Each row: an output.
    case outputs
    /// Each run of columns of this length: an input with its kernel.
    case inputs(kernelSize: Int)
  }

  /// How a weight other than 1 enters, and what is added to the norm.
  public enum Convention: Sendable, Hashable {
    /// PEFT and MLX: the weight multiplies the delta, then the sum is normalised (peft:src/peft/tuners/lora/dora.py).
    case peft
    /// LyCORIS: the sum is taken at weight 1 and the factor is `weight · (magnitude / norm - 1) + 1`; the norm has the
    /// epsilon of float32 added (LyCORIS:lycoris/modules/locon.py, `apply_weight_decompose`).
    case lycoris
  }

  /// The additive update inside.
  public var inner: any Update
  /// The magnitudes as one column.
  public var magnitude: Factor
  /// What has a magnitude each.
  public var axis: Axis
  /// Whose rules are followed.
  public var convention: Convention

  /// Describes a decomposed update.
  ///
  /// - Parameters:
  ///   - inner: An additive update.
  ///   - magnitude: As many values as the axis has.
  ///   - axis: What has a magnitude each.
  ///   - convention: Whose rules are followed.
  /// - Throws: `adapter.shape` where the number of magnitudes is wrong, `adapter.dtype`.
  public init(
    _ inner: any Update, magnitude: Factor, axis: Axis, convention: Convention
  ) throws(SurgeryError) {
    let (expected, rest) =
      switch axis {
      case .outputs: (inner.rows, 0)
      case .inputs(let kernelSize):
        inner.columns.quotientAndRemainder(dividingBy: max(kernelSize, 1))
      }
    guard magnitude.count == expected, rest == 0 else {
      throw SurgeryError.adapter(
        "shape", "the magnitudes do not fit the module", file: magnitude.tensor.source.file.path,
        key: magnitude.tensor.name.text,
        expected: rest == 0
          ? "\(expected, counting: "value")" : "a divisor of the \(inner.columns) inputs",
        found: "\(magnitude.tensor.info.shape)")
    }
    guard magnitude.dtype.isFloatingPoint else { throw magnitude.notFloating }
    self.inner = inner
    self.magnitude = magnitude.reshaped(rows: magnitude.count, columns: 1)
    self.axis = axis
    self.convention = convention
  }

  /// DoRA, whatever the inner family is.
  public var algorithm: String { "dora" }
  /// Rows of the inner update.
  public var rows: Int { inner.rows }
  /// Columns of the inner update.
  public var columns: Int { inner.columns }
  /// The inner rank.
  public var rank: Int? { inner.rank }
  /// Not additive: the norm depends on the target.
  public var isAdditive: Bool { false }
  /// The inner factors and the magnitudes.
  public var factors: [Factor] { inner.factors + [magnitude] }
  /// The norm of the sum is lost in merging.
  public var inversion: Inversion {
    .impossible(
      "DoRA divides by the norm of the unmerged sum, which the merged weight no longer tells")
  }
  /// Whole rows or whole columns, as the norm runs over them.
  public var need: BlockNeed {
    switch axis {
    case .outputs: inner.need.joined(with: .wholeRows)
    case .inputs(1): inner.need.joined(with: .wholeColumns)
    case .inputs: .whole
    }
  }

  /// Reads the factors.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    LoadedDecomposed(
      inner: try inner.loaded(scale: scale, as: Scalar.self),
      magnitude: try magnitude.matrix(of: Double.self).elements, axis: axis,
      convention: convention)
  }
}

/// A decomposed update in memory.
struct LoadedDecomposed<Scalar: BLASScalar>: LoadedUpdate {
  let inner: any LoadedUpdate<Scalar>
  let magnitude: [Double]
  let axis: Decomposed.Axis
  let convention: Decomposed.Convention

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    inner.apply(
      to: &block, rows: rows, columns: columns, weight: convention == .peft ? weight : 1)
    switch axis {
    case .outputs:
      let norms = rowNorms(block)
      let factors = norms.enumerated().map {
        factor(magnitude[rows.lowerBound + $0.offset], $0.element, weight)
      }
      block.multiplyRows(by: factors.map { Scalar($0) })
    case .inputs(let kernelSize):
      let norms = columnNorms(block, groupedBy: kernelSize)
      let first = columns.lowerBound / kernelSize
      let factors = norms.enumerated().map {
        factor(magnitude[first + $0.offset], $0.element, weight)
      }
      block.multiplyColumns(
        by: (0..<block.columns).map { Scalar(factors[$0 / kernelSize]) })
    }
  }

  private func factor(_ magnitude: Double, _ norm: Double, _ weight: Double) -> Double {
    switch convention {
    // A row of zeros stays one, where the peer would divide by zero.
    case .peft: norm == 0 ? 0 : magnitude / norm
    case .lycoris: weight * (magnitude / (norm + Double(Float.ulpOfOne)) - 1) + 1
    }
  }

  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    throw SurgeryError.notInvertible("DoRA divides by the norm of the unmerged sum")
  }

  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? { nil }
}

extension SurgeryError {
  /// The error for a change that cannot be taken out of a merged tensor.
  static func notInvertible(_ reason: String) -> Self {
    unsupportedAdapter(
      "the change cannot be taken out of a merged tensor: \(reason)", id: "not-invertible",
      hint: "use the file that merge --undo wrote, or the base")
  }
}
