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
