import Checkpoints
public import LinearAlgebra
public import Tensors

/// A low-rank product with weights on its sides: AdaLoRA, VeRA, DeLoRA.
///
/// `W + s · diag(outputs) · up · diag(ranks) · down · diag(inputs)`, in which any of the three may be absent.
public struct WeightedLowRank: Update {
  /// The family's name in reports.
  public let algorithm: String
  /// At least `out x rank`; only the first rows are used where `outputs` has fewer values.
  public var up: Factor
  /// At least `rank x in`; only the first columns are used where the target has fewer inputs.
  public var down: Factor
  /// A weight for each output.
  public var outputs: Factor?
  /// A weight for each rank.
  public var ranks: Factor?
  /// A weight for each input.
  public var inputs: Factor?
  /// A number which, divided by the rank and by the norms of the two vectors of each rank, is their weight.
  ///
  /// DeLoRA: Bini et al. 2025, arXiv:2503.18225; peft:src/peft/tuners/delora/layer.py.
  public var boundary: Factor?
  private var width: Int

  /// Describes a weighted product.
  ///
  /// - Parameters:
  ///   - algorithm: The family's name in reports.
  ///   - up: At least `out x rank`.
  ///   - down: At least `rank x in`.
  ///   - outputs: A weight for each output.
  ///   - ranks: A weight for each rank.
  ///   - inputs: A weight for each input.
  ///   - boundary: DeLoRA's lambda.
  /// - Throws: `adapter.shape` or `adapter.dtype`.
  public init(
    algorithm: String, up: Factor, down: Factor, outputs: Factor? = nil, ranks: Factor? = nil,
    inputs: Factor? = nil, boundary: Factor? = nil
  ) throws(SurgeryError) {
    let pair = try LowRank(up: up, down: down)
    if let outputs { try Self.check(outputs, at: "outputs", expected: up.rows, orFewer: true) }
    if let ranks { try Self.check(ranks, at: "ranks", expected: up.columns, orFewer: false) }
    if let inputs { try Self.check(inputs, at: "inputs", expected: down.columns, orFewer: false) }
    if let boundary { try Self.check(boundary, at: "lambda", expected: 1, orFewer: false) }
    self.algorithm = algorithm
    self.up = outputs.map { up.rows(0..<$0.count) } ?? pair.up
    self.down = pair.down
    self.outputs = outputs
    self.ranks = ranks
    self.inputs = inputs
    self.boundary = boundary
    width = down.columns
  }

  private static func check(
    _ weights: Factor, at place: String, expected: Int, orFewer: Bool
  ) throws(SurgeryError) {
    guard weights.dtype.isFloatingPoint else { throw weights.notFloating }
    guard weights.count == expected || (orFewer && weights.count < expected) else {
      throw SurgeryError.adapter(
        "shape", "the weights of the \(place) do not fit the factors",
        file: weights.tensor.source.file.path, key: weights.tensor.name.text,
        expected: "\(expected, counting: "value")", found: "\(weights.tensor.info.shape)")
    }
  }

  /// Outputs.
  public var rows: Int { up.rows }
  /// Inputs.
  public var columns: Int { width }
  /// Columns of `up`.
  public var rank: Int? { up.columns }
  /// The rank.
  public var productRank: Int? { up.columns }
  /// Every factor and weight.
  public var factors: [Factor] {
    [down, up] + [outputs, ranks, inputs, boundary].compactMap(\.self)
  }

  /// Takes the number of inputs from the target where the stored matrix is shared by wider modules.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    var fitted = self
    if outputs != nil {
      let straight = target.storedRows == rows && target.storedColumns <= down.columns
      fitted.width = straight ? target.storedColumns : target.storedRows
      guard fitted.width <= down.columns else { throw target.mismatch(rows, down.columns) }
    }
    return FittedUpdate(
      update: fitted,
      isTransposed: try target.isTransposed(rows: fitted.rows, columns: fitted.columns))
  }

  /// Reads the factors and multiplies the weights into them.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    let pair = try product(as: Scalar.self)
    return LoadedLowRank(up: pair.up, down: pair.down, scale: scale)
  }

  /// Reads the factors and multiplies the weights into them.
  public func products<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> [Factors<Scalar>]? { [try product(as: Scalar.self)] }

  private func product<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> Factors<Scalar> {
    var left = try up.matrix(of: Double.self)
    var right = try down.columns(0..<width).matrix(of: Double.self)
    if let outputs { left.multiplyRows(by: try outputs.matrix(of: Double.self).elements) }
    if let ranks { right.multiplyRows(by: try ranks.matrix(of: Double.self).elements) }
    if let boundary {
      let lambda = try boundary.matrix(of: Double.self).elements.first ?? 0
      let (downNorms, upNorms) = (rowNorms(right), rowNorms(left.transposed()))
      right.multiplyRows(
        by: zip(downNorms, upNorms).map {
          lambda / (Double(right.rows) * max($0, 1e-4) * max($1, 1e-4))
        })
    }
    if let inputs { right.multiplyColumns(by: try inputs.matrix(of: Double.self).elements) }
    return Factors(
      up: left.converted(to: Scalar.self), down: right.converted(to: Scalar.self))
  }
}
