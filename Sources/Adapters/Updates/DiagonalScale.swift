import Checkpoints
public import LinearAlgebra
public import Tensors

/// (IA)³: every output or every input is multiplied by a number.
///
/// Liu et al. 2022, arXiv:2205.05638. PEFT stores the factor itself (peft:src/peft/tuners/ia3/layer.py), LyCORIS its difference from 1
/// (LyCORIS:lycoris/modules/ia3.py). At another weight the factor is `1 + weight · (factor - 1)`.
public struct DiagonalScale: Update {
  /// What is multiplied.
  public enum Axis: Sendable, Hashable {
    /// Rows.
    case outputs
    /// Runs of columns of this length.
    case inputs(kernelSize: Int)
  }

  /// One value an output or an input.
  public var values: Factor
  /// What is multiplied.
  public var axis: Axis
  /// Whether 0 stands for no change, rather than 1.
  public var isOffset: Bool
  /// Size of the other axis of the target; it has no other source than the target itself.
  private var otherSize: Int

  /// Describes a diagonal scaling.
  ///
  /// - Parameters:
  ///   - values: One value an output or an input, in any shape.
  ///   - axis: What is multiplied.
  ///   - isOffset: Whether 0 stands for no change.
  /// - Throws: `adapter.dtype`.
  public init(_ values: Factor, axis: Axis, isOffset: Bool) throws(SurgeryError) {
    guard values.dtype.isFloatingPoint else { throw values.notFloating }
    self.values = values.reshaped(rows: values.count, columns: 1)
    self.axis = axis
    self.isOffset = isOffset
    otherSize = 1
  }

  /// (IA)³.
  public var algorithm: String { "ia3" }
  /// Outputs, as far as known.
  public var rows: Int { axis == .outputs ? values.count : otherSize }
  /// Inputs, as far as known.
  public var columns: Int {
    switch axis {
    case .outputs: otherSize
    case .inputs(let kernelSize): values.count * kernelSize
    }
  }
  /// Not additive.
  public var isAdditive: Bool { false }
  /// The values.
  public var factors: [Factor] { [values] }

  /// Takes the size of the other axis, and that of the kernel, from the target.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    let isTransposed = target.saidTransposed ?? target.knownTransposed ?? false
    let (rows, columns) =
      isTransposed
      ? (target.storedColumns, target.storedRows) : (target.storedRows, target.storedColumns)
    var fitted = self
    switch axis {
    case .outputs:
      guard values.count == rows else { throw target.mismatch(values.count, columns) }
      fitted.otherSize = columns
    case .inputs:
      guard values.count > 0, columns % values.count == 0,
        target.shape.rank > 2 || columns == values.count
      else { throw target.mismatch(rows, values.count) }
      fitted.axis = .inputs(kernelSize: columns / values.count)
      fitted.otherSize = rows
    }
    return FittedUpdate(update: fitted, isTransposed: isTransposed)
  }

  /// Reads the values.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    let stored = try values.matrix(of: Double.self).elements
    return LoadedDiagonal<Scalar>(
      offsets: stored.map { scale * (isOffset ? $0 : $0 - 1) }, axis: axis,
      key: values.tensor.name.text)
  }
}

/// The values of a diagonal scaling in memory, as differences from 1.
struct LoadedDiagonal<Scalar: BLASScalar>: LoadedUpdate {
  let offsets: [Double]
  let axis: DiagonalScale.Axis
  let key: String

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    multiply(&block, rows, columns) { Scalar(1 + weight * $0) }
  }

  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) throws(SurgeryError) {
    guard offsets.allSatisfy({ 1 + weight * $0 != 0 }) else {
      throw SurgeryError.notInvertible("\(key) multiplies by zero")
    }
    multiply(&block, rows, columns) { Scalar(1 / (1 + weight * $0)) }
  }

  private func multiply(
    _ block: inout Matrix<Scalar>, _ rows: Range<Int>, _ columns: Range<Int>,
    _ factor: (Double) -> Scalar
  ) {
    switch axis {
    case .outputs: block.multiplyRows(by: rows.map { factor(offsets[$0]) })
    case .inputs(let size): block.multiplyColumns(by: columns.map { factor(offsets[$0 / size]) })
    }
  }

  func delta(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar>? { nil }
}
