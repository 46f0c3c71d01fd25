import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// What extraction keeps of one tensor.
struct ExtractedTensor: Sendable {
  /// What goes into the adapter.
  enum Content: Sendable {
    case factors(StoredFactors, LowRank.Form)
    case stack(StoredFactors, ExpertStack)
    case full(StoredTensor)
    case difference(StoredTensor)
  }

  var report: TensorReport
  var content: Content?
  /// What the user should know of the tensor.
  var warning: String?

  init(_ report: TensorReport, content: Content? = nil) {
    self.report = report
    self.content = content
  }

  /// A tensor that holds the same values in both models.
  static func unchanged(_ pair: ExtractPlan.Pair) -> Self {
    Self(TensorReport(pair.tuned.name, .unchanged, shape: pair.tuned.info.shape))
  }

  /// What a plan says before anything is read.
  init(planned pair: ExtractPlan.Pair) {
    let shape = pair.tuned.info.shape
    switch pair.treatment {
    case .lowRank, .experts:
      report = TensorReport(pair.tuned.name, .lowRank, shape: shape, reason: "if it differs")
    case .full:
      report = TensorReport(pair.tuned.name, .full, shape: shape, reason: "if it differs")
    case .skip(let reason):
      report = TensorReport(pair.tuned.name, .skipped, shape: shape, reason: reason)
    }
  }
}

extension ExtractedTensor {
  /// A stand-in for a changed tensor, with factors of rank 1, that a dialect holds or refuses as it will the tensor.
  ///
  /// There is none where the rank's rule may yet choose to keep the tensor in full, or to leave it out, and where the values may
  /// be the same in another dtype.
  ///
  /// - Parameters:
  ///   - pair: The tensor in both models.
  ///   - dialect: The dialect to be written.
  ///   - spool: Receives the factors.
  /// - Throws: What writing to the spool throws.
  init?(
    standingFor pair: ExtractPlan.Pair, dialect: Dialect, spool: SpoolFile
  ) throws(SurgeryError) {
    guard pair.tuned.info.dtype == pair.base.info.dtype else { return nil }
    self.init(planned: pair)
    switch pair.treatment {
    case .skip: return nil
    case .full:
      content = pair.isKeptAsDifference(in: dialect) ? .difference(pair.tuned) : .full(pair.tuned)
    case .lowRank(let form):
      guard pair.rule.isFixed else { return nil }
      content = .factors(try StoredFactors(ofRankOneFor: pair, in: spool), form)
    case .experts(let stack):
      guard pair.rule.isFixed else { return nil }
      content = .stack(try StoredFactors(ofRankOneFor: pair, in: spool), stack)
    }
  }
}

extension StoredFactors {
  fileprivate init(
    ofRankOneFor pair: ExtractPlan.Pair, in spool: SpoolFile
  ) throws(SurgeryError) {
    func zeros(_ shape: Shape) throws(SurgeryError) -> StoredTensor {
      try spool.append([UInt8](repeating: 0, count: shape.elementCount), shape: shape, as: .f8e4m3)
    }
    let (matrix, count) = (pair.matrixShape, pair.matrixCount)
    left = try zeros(Shape(rows: count * matrix.rows, columns: 1))
    right = try zeros(Shape(rows: count, columns: matrix.columns))
  }
}

/// A delta whose leading directions are known, and whose rank is still to be chosen.
struct SearchedDelta: Sendable {
  /// The singular values; of a stack those of all matrices together.
  var spectrum: Spectrum
  /// The rank that the tensor's own rule chose; `nil` where a budget decides.
  var ownRank: Int?
  /// What was found of each matrix: one, or those of a stack.
  var matrices: [SearchedMatrix]
}

/// The leading directions of one matrix.
struct SearchedMatrix: Sendable {
  var spectrum: Spectrum
  /// The leading right singular vectors, one a row, in working precision in the spool.
  var right: StoredTensor
  /// Whether the exact decomposition had to step in for the search.
  var fellBack: Bool
}

/// The first half of a tensor's extraction.
enum SearchedTensor: Sendable {
  /// Nothing is left to choose.
  case settled(ExtractedTensor)
  case open(SearchedDelta)
}
