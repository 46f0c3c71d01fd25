import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// One update of a tensor, ready to be applied.
struct PlannedUpdate: Sendable {
  var update: any Update
  /// The module's final scale.
  var scale: Double
  /// The rows of the target's `out x in` matrix that it changes.
  var rows: Range<Int>
  /// The user's weight of the adapter.
  var weight: Double
}

/// What happens to one tensor on its way from an input to an output.
struct TensorStep: Sendable {
  /// Whether updates are put in or taken out.
  enum Direction: Sendable, Hashable {
    case merge, unmerge
  }

  /// The tensor to read.
  var source: StoredTensor
  /// Where it goes.
  var place: PlannedTensor
  /// Its dtype in the output.
  var dtype: DType
  /// The updates, in the order in which they were named.
  var updates: [PlannedUpdate] = []
  var direction = Direction.merge
  /// Whether the tensor is stored `in x out`.
  var isTransposed = false

  /// Whether the bytes are copied as they are.
  var isCopy: Bool { updates.isEmpty && dtype == source.info.dtype }

  /// How much of the stored matrix must be at hand at once.
  var need: BlockNeed {
    let need = updates.reduce(BlockNeed.any) { $0.joined(with: $1.update.need) }
    return isTransposed ? need.transposed : need
  }

  /// Whether blocks of whole stored rows suffice; otherwise the tensor is taken whole.
  var worksByRows: Bool { need <= .wholeRows }

  /// The precision in which the result, rounded once, is right: single precision has too few bits to round sums to itself.
  func needsDouble(_ precision: Precision) -> Bool {
    switch (precision, dtype) {
    case (.float64, _), (_, .f32), (_, .f64), (_, .i64), (_, .u64), (_, .i32), (_, .u32): true
    case (.float32, _): source.info.dtype == .f64
    }
  }
}

/// What the rewriting of one tensor found.
struct StepOutcome: Sendable {
  /// Finite results that the storage dtype cannot hold.
  var loss = NarrowingLoss()
  /// Elements whose bytes differ from the input's.
  var changedElements = 0

  static func += (left: inout Self, right: Self) {
    left.loss += right.loss
    left.changedElements += right.changedElements
  }
}
