import Checkpoints
public import LinearAlgebra
public import Tensors

/// Additive changes whose elements are looked up in few parameters: C3A, SHiRA, MiSS.
public struct PatternedDifference: Update {
  /// Where an element of the delta comes from.
  public enum Layout: Sendable {
    /// C3A: circulant blocks; `kernel[i, j, (q - p) mod b] / in` (peft:src/peft/tuners/c3a/layer.py).
    case circulant(blockRows: Int, blockColumns: Int, size: Int)
    /// SHiRA: values at stored places (peft:src/peft/tuners/shira/layer.py).
    case sparse(rows: Factor, columns: Factor)
    /// MiSS: column `b · r + q` is row `q` of the parameters (peft:src/peft/tuners/miss/layer.py).
    case tiled
  }

  /// The family's name in reports.
  public let algorithm: String
  /// The parameters.
  public var values: Factor
  /// Where an element comes from.
  public var layout: Layout
  /// Whether a tiled change has fewer columns than the target has outputs, and is repeated along them: MiSS's "mini".
  public var repeatsOutputs = false
  private var size: (rows: Int, columns: Int)

  /// Describes a patterned change.
  ///
  /// - Parameters:
  ///   - algorithm: The family's name in reports.
  ///   - values: The parameters.
  ///   - layout: Where an element comes from.
  /// - Throws: `adapter.dtype`; `adapter.shape` where a tile has no elements.
  public init(algorithm: String, values: Factor, layout: Layout) throws(SurgeryError) {
    guard values.dtype.isFloatingPoint else { throw values.notFloating }
    self.algorithm = algorithm
    self.values = values
    self.layout = layout
    switch layout {
    case .circulant(let rows, let columns, let block): size = (rows * block, columns * block)
    case .sparse(let rows, let columns):
      for places in [rows, columns] where !places.dtype.isNumeric { throw places.notNumeric }
      size = (0, 0)
    case .tiled:
      guard values.count > 0 else {
        throw SurgeryError.adapter(
          "shape", "the parameters have no elements", file: values.tensor.source.file.path,
          key: values.tensor.name.text, found: "\(values.tensor.info.shape)")
      }
      size = (values.columns, 0)
    }
  }

  /// Outputs.
  public var rows: Int { size.rows }
  /// Inputs.
  public var columns: Int { size.columns }
  /// The parameters and places.
  public var factors: [Factor] {
    if case .sparse(let rows, let columns) = layout { return [values, rows, columns] }
    return [values]
  }

  /// Takes from the target what the parameters do not say.
  public func fitted(to target: FittingTarget) throws(SurgeryError) -> FittedUpdate {
    var fitted = self
    if case .sparse = layout { fitted.size = (target.storedRows, target.storedColumns) }
    if case .tiled = layout {
      if repeatsOutputs, target.storedRows.isMultiple(of: values.columns) {
        let order = (0..<target.storedRows).map { $0 % values.columns }
        fitted.values = values.transposed().rows(in: order).transposed()
        fitted.size.rows = target.storedRows
      }
      fitted.size.columns =
        target.storedRows == fitted.rows ? target.storedColumns : target.storedRows
    }
    return FittedUpdate(
      update: fitted,
      isTransposed: try target.isTransposed(rows: fitted.rows, columns: fitted.columns))
  }

  /// Reads the parameters and spreads them out.
  ///
  /// - Complexity: The size of the target, which lies in memory whole.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    let stored = try values.matrix(of: Double.self)
    var result = Matrix<Scalar>(rows: rows, columns: columns)
    switch layout {
    case .circulant(_, let blockColumns, let block):
      for row in 0..<rows {
        for column in 0..<columns {
          let (i, p) = row.quotientAndRemainder(dividingBy: block)
          let (j, q) = column.quotientAndRemainder(dividingBy: block)
          let index = (i * blockColumns + j) * block + (q - p + block) % block
          result[row, column] = Scalar(scale * stored.elements[index] / Double(columns))
        }
      }
    case .tiled:
      for row in 0..<rows {
        for column in 0..<columns {
          result[row, column] = Scalar(scale * stored[column % stored.rows, row])
        }
      }
    case .sparse(let rowPlaces, let columnPlaces):
      let places = zip(try rowPlaces.indices(below: rows), try columnPlaces.indices(below: columns))
      for (value, place) in zip(stored.elements, places) {
        result[place.0, place.1] += Scalar(scale * value)
      }
    }
    return LoadedDifference(matrix: result)
  }
}

extension Factor {
  /// The elements as indices, or as sizes, of a dimension.
  ///
  /// - Throws: `adapter.dtype`; `adapter.shape` with the first value that is no whole number or out of range.
  func indices(below limit: Int) throws(SurgeryError) -> [Int] {
    guard dtype.isNumeric else { throw notNumeric }
    let values = [Double](widening: try bytes(), from: dtype)
    if let wrong = values.first(where: {
      !($0 >= 0 && $0 < Double(limit) && $0 == $0.rounded())
    }) {
      throw SurgeryError.adapter(
        "shape", "a stored index or size is out of range", file: tensor.source.file.path,
        key: tensor.name.text, expected: "whole numbers from 0 to \(limit - 1)",
        found: Int(exactly: wrong).map(String.init) ?? "\(wrong)")
    }
    return values.map { Int($0) }
  }

  /// The error for indices that are no numbers.
  var notNumeric: SurgeryError {
    .adapter(
      "dtype", "indices and sizes must be whole numbers", file: tensor.source.file.path,
      key: tensor.name.text, expected: "an integer type", found: dtype.name)
  }
}
