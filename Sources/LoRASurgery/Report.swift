import Adapters
public import Tensors

/// What an operation did to one tensor.
public enum TensorAction: String, Sendable, Codable, CaseIterable {
  /// The delta became a pair of factors.
  case lowRank = "low_rank"
  /// The changed tensor is kept in full.
  case full
  /// The tensor was replaced by one of the adapter.
  case replaced
  /// Base and tuned hold the same values.
  case unchanged
  /// The bytes were copied.
  case copied
  /// The tensor took no part, for the reason given.
  case skipped
  /// An adapter's change was added.
  case merged
  /// An adapter's change was taken out.
  case unmerged
  /// The tensor was written in another form.
  case converted
}

/// What an operation did to one tensor, in numbers.
public struct TensorReport: Sendable, Codable {
  /// The tensor's name in the base.
  public var tensor: TensorName
  /// What was done.
  public var action: TensorAction
  /// Why, where that is not plain.
  public var reason: String?
  /// The tensor's dimensions.
  public var shape: Shape
  /// The rank of the factors.
  public var rank: Int?
  /// The Frobenius norm of the delta.
  public var deltaNorm: Double?
  /// The Frobenius norm of what the result does not hold of the delta.
  public var residualNorm: Double?
  /// `1 - residualNorm² / deltaNorm²`.
  public var capturedEnergy: Double?
  /// The Frobenius norm of the delta relative to that of the weights that it changes.
  public var relativeNorm: Double?
  /// The share of the delta that rounding to the storage dtype left: its inner product with what the elements changed by,
  /// relative to its square.
  public var survivingShare: Double?
  /// Elements that are stored with other bits than before.
  public var changedElements: Int?
  /// Finite results that the storage dtype cannot hold.
  public var overflowed: Int?

  /// Reports on a tensor; numbers that do not apply stay `nil`.
  public init(_ tensor: TensorName, _ action: TensorAction, shape: Shape, reason: String? = nil) {
    self.tensor = tensor
    self.action = action
    self.shape = shape
    self.reason = reason
  }

  /// The norms of an extraction, where both are known.
  var extraction: ExtractionFacts? {
    guard let deltaNorm, let residualNorm else { return nil }
    return ExtractionFacts(deltaNorm: deltaNorm, residualNorm: residualNorm)
  }

  /// Sets norm, residual and energy from their squares.
  mutating func setEnergies(squaredNorm: Double, squaredResidual: Double) {
    deltaNorm = squaredNorm.squareRoot()
    residualNorm = squaredResidual.squareRoot()
    capturedEnergy = squaredNorm > 0 ? 1 - squaredResidual / squaredNorm : nil
  }
}

/// What an operation did, tensor by tensor and in total.
public struct OperationReport: Sendable, Codable {
  /// Sums over all tensors.
  public struct Totals: Sendable, Codable {
    /// Tensors of the input.
    public var tensors = 0
    /// Tensors that differ in the result, or between base and tuned.
    public var changed = 0
    /// The Frobenius norm of all deltas together.
    public var deltaNorm: Double?
    /// The Frobenius norm of all that the result does not hold of the deltas.
    public var residualNorm: Double?
    /// `1 - residualNorm² / deltaNorm²`.
    public var capturedEnergy: Double?
    /// Elements of the adapter.
    public var parameters: Int?
    /// Bytes of tensors read, once for each tensor.
    public var bytesRead = 0
    /// Bytes of tensors written.
    public var bytesWritten = 0
    /// Bytes of the undo record.
    public var undoBytes: Int?
    /// Wall-clock time.
    public var seconds = 0.0
    /// The most memory that the process held, in bytes.
    public var peakMemory = 0
  }

  /// The command's name.
  public var command: String
  /// The program's version.
  public var version = Version.current
  /// The command whose parts were gathered.
  public var gathered: String?
  /// The part of the operation that this is a report of.
  public var part: PartReport?
  /// What was read, where a command takes one input after the other.
  public var input: String?
  /// Where the result went; absent for a dry run.
  public var output: String?
  /// One entry for each tensor of the input.
  public var modules: [TensorReport]
  /// What became of each adapter.
  public var adapters: [AdapterReport]?
  /// The sums.
  public var totals = Totals()
  /// What the user should know though the operation went on.
  public var warnings: [String] = []

  init(command: String, modules: [TensorReport]) {
    self.command = command
    self.modules = modules
    totals.tensors = modules.count
    totals.changed = modules.count {
      switch $0.action {
      case .copied, .unchanged, .skipped: false
      case .lowRank, .full, .replaced, .merged, .unmerged, .converted: true
      }
    }
    let deltas = modules.compactMap(\.deltaNorm)
    if !deltas.isEmpty {
      let squared = deltas.reduce(0) { $0 + $1 * $1 }
      totals.deltaNorm = squared.squareRoot()
      let residuals = modules.compactMap(\.residualNorm)
      if !residuals.isEmpty {
        let left = residuals.reduce(0) { $0 + $1 * $1 }
        totals.residualNorm = left.squareRoot()
        totals.capturedEnergy = squared > 0 ? 1 - left / squared : nil
      }
    }
  }
}
