import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// What happens to one tensor on its way from an input to an output.
struct TensorStep: Sendable {
  /// The tensor to read.
  var source: StoredTensor
  /// Where it goes.
  var place: PlannedTensor
  /// Its dtype in the output.
  var dtype: DType
  /// The updates, in the order in which they were named.
  var updates: [PlannedUpdate] = []
  /// Whether the updates are put in or taken out.
  var direction = MergeDirection.merge
  /// Rows of the stored matrix, where they are not the first dimension.
  var storedRows: Int?

  /// Whether the bytes are copied as they are.
  var isCopy: Bool { updates.isEmpty && dtype == source.info.dtype }

  /// Whether blocks of whole stored rows suffice; otherwise the tensor is taken whole.
  var worksByRows: Bool {
    updates.reduce(BlockNeed.any) { $0.joined(with: $1.need) } <= .wholeRows
  }

  /// Whether the result is the source plus a delta that does not depend on it.
  var isAdditive: Bool {
    !updates.isEmpty && worksByRows && updates.allSatisfy(\.update.isAdditive)
      && (direction == .merge || updates.allSatisfy { $0.update.inversion == .possible })
  }

  /// The matrix as it is stored, cut into blocks.
  var geometry: BlockGeometry {
    let rows = storedRows ?? source.info.shape.rows
    return BlockGeometry(
      rows: rows, columns: source.info.shape.elementCount / max(1, rows), isWhole: !worksByRows)
  }

  /// The precision in which the result, rounded once, is right: single precision has too few bits to round sums to itself.
  func needsDouble(_ arithmetic: Arithmetic) -> Bool {
    if arithmetic.rounding != .nearest { return true }
    // A conversion computes nothing: it is exact wherever single precision holds the source's elements.
    if updates.isEmpty, source.info.dtype.fitsSinglePrecision { return false }
    switch (arithmetic.precision, dtype) {
    case (.float64, _), (_, .f32), (_, .f64), (_, .i64), (_, .u64), (_, .i32), (_, .u32):
      return true
    case (.float32, _): return source.info.dtype == .f64
    }
  }
}

extension DType {
  /// Whether `Float` holds every element exactly.
  fileprivate var fitsSinglePrecision: Bool {
    switch self {
    case .bool, .u8, .i8, .u16, .i16, .f16, .bf16, .f32, .f8e4m3, .f8e5m2: true
    default: false
    }
  }
}

/// How a stored matrix is cut into blocks of rows; it depends on the tensor alone, never on the number of workers.
struct BlockGeometry: Sendable, Hashable {
  let rows: Int
  let columns: Int
  let rowsPerBlock: Int

  /// Elements of one block: read, added to and rounded while they are in the second-level cache.
  static let blockElements = 1 << 15

  init(rows: Int, columns: Int, isWhole: Bool) {
    self.rows = rows
    self.columns = columns
    // A multiple of the rows that the kernels take at a time, unless those are very long.
    let kernelRows = 8
    let fitting = max(
      Self.blockElements / max(1, columns),
      min(kernelRows, 4 * Self.blockElements / max(1, columns)), 1)
    rowsPerBlock =
      isWhole ? max(1, rows) : fitting < kernelRows ? fitting : fitting / kernelRows * kernelRows
  }

  /// Number of blocks.
  var count: Int { (rows + rowsPerBlock - 1) / rowsPerBlock }

  /// The rows of a block.
  func rows(of block: Int) -> Range<Int> {
    block * rowsPerBlock..<min(rows, (block + 1) * rowsPerBlock)
  }
}

/// How results are computed and rounded.
struct Arithmetic: Sendable {
  var precision = Precision.float32
  var rounding = RoundingMode.nearest
  var allowOverflow = false
}

/// What the rewriting of one tensor found.
struct StepOutcome: Sendable {
  /// What was added, and what became of it; zeros for tensors that were copied or converted.
  var sums = AdditionSums()

  static func += (left: inout Self, right: Self) { left.sums += right.sums }
}
