import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// What an adapter changes of one tensor, formed block by block: the changed tensor minus the one that it starts from.
///
/// Rows and columns are those of the tensor as it is stored, or of the update where there is no base.
struct AppliedDelta: BlockedMatrix {
  typealias Scalar = Double

  let rows: Int
  let columns: Int
  private let blockRows: Int
  private let form: (Range<Int>) throws(SurgeryError) -> Matrix<Double>
  private let interruption: Interruption

  /// The delta of a tensor of a base.
  ///
  /// - Throws: What reading the factors throws.
  init(_ tensor: TensorUpdates, interruption: Interruption) throws(SurgeryError) {
    let change = try TensorChange<Double>(tensor.planned(), .merge)
    let (height, width) = (tensor.storedRows, tensor.storedColumns)
    rows = height
    columns = width
    self.interruption = interruption
    if tensor.isAdditive {
      blockRows = Self.rowsPerBlock(width)
      form = { (range) throws(SurgeryError) in
        var delta = Matrix<Double>(rows: range.count, columns: width)
        change.addDelta(to: &delta, rows: range)
        return delta
      }
    } else {
      // A change that needs whole columns takes the tensor as one block.
      blockRows = tensor.worksByRows ? Self.rowsPerBlock(width) : max(1, height)
      let source = tensor.source
      form = { (range) throws(SurgeryError) in
        var reader = try ElementReader<Double>(source, capacity: range.count * width)
        var before = Matrix<Double>(rows: range.count, columns: width)
        try before.withElements { (values) throws(SurgeryError) in
          try reader.read(from: range.lowerBound * width, into: &values)
        }
        var after = before
        try change.apply(to: &after, rows: range)
        after.withElements { values in
          for index in values.indices { values[index] -= before.elements[index] }
        }
        return after
      }
    }
  }

  /// The delta of an update that does not depend on a base.
  ///
  /// - Throws: What reading the factors throws.
  init(
    _ update: any Update, scale: Double, interruption: Interruption
  ) throws(SurgeryError) {
    let loaded = try update.loaded(scale: scale, as: Double.self)
    let width = update.columns
    rows = update.rows
    columns = width
    blockRows = Self.rowsPerBlock(width)
    self.interruption = interruption
    form = { (range) throws(SurgeryError) in
      loaded.delta(rows: range, columns: 0..<width) ?? Matrix(rows: range.count, columns: width)
    }
  }

  /// Rows of a block of about a megabyte.
  private static func rowsPerBlock(_ columns: Int) -> Int { max(1, (1 << 17) / max(1, columns)) }

  func forEachBlock(
    in range: Range<Int>,
    _ body: (_ firstRow: Int, _ block: Span<Double>) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    var row = range.lowerBound
    while row < range.upperBound {
      try interruption.check()
      // Blocks that need the whole tensor are formed whole, whatever part of them is wanted.
      let whole = blockRows >= rows
      let block = whole ? 0..<rows : row..<min(row + blockRows, range.upperBound)
      let matrix = try form(block)
      let wanted = whole ? range : block
      let first = (wanted.lowerBound - block.lowerBound) * columns
      try body(
        wanted.lowerBound,
        matrix.elements.span.extracting(first..<(first + wanted.count * columns)))
      row = wanted.upperBound
    }
  }
}
