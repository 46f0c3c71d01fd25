import LinearAlgebra
import Tensors

/// The spectra of all deltas between two models, and what ranks would keep and cost.
public struct SpectrumReport: Sendable, Codable {
  /// What one rank for every matrix captures and costs.
  public struct RankCost: Sendable, Codable, Hashable {
    /// The rank; matrices with a shorter side get less.
    public var rank: Int
    /// Bytes of all factors, each in the dtype of its tensor.
    public var bytes: Int
    /// The share of the energy of all decomposed deltas.
    public var capturedEnergy: Double
  }

  /// What a rule chooses over all matrices.
  public struct PolicyTotal: Sendable, Codable, Hashable {
    /// The rule as the option of `extract`.
    public var option: String
    /// The least rank chosen.
    public var leastRank: Int?
    /// The largest rank chosen.
    public var largestRank: Int?
    /// Matrices for which the known values do not decide; nothing of them is in the sums.
    public var undecided: Int
    /// Bytes of all factors.
    public var bytes: Int
    /// The share of the energy of the deltas that are decided.
    public var capturedEnergy: Double?
  }

  /// Sums over all tensors.
  public struct Totals: Sendable, Codable {
    /// Tensors of both models.
    public var tensors = 0
    /// Tensors that differ.
    public var changed = 0
    /// Matrices that differ.
    public var matrices = 0
    /// The Frobenius norm of all deltas together.
    public var deltaNorm = 0.0
    /// The Frobenius norm of the deltas that are matrices.
    public var matrixNorm = 0.0
    /// Bytes of the changed tensors that are no matrices, which an extraction keeps in full.
    public var fullBytes = 0
    /// Capture and cost of some ranks, ascending.
    public var ranks: [RankCost] = []
    /// What each rule chooses.
    public var policies: [PolicyTotal] = []
    /// Bytes of tensors read, once for each tensor.
    public var bytesRead = 0
    /// Wall-clock time.
    public var seconds = 0.0
    /// The most memory that the process held, in bytes.
    public var peakMemory = 0
  }

  /// Always "spectrum".
  public var command = "spectrum"
  /// The program's version.
  public var version = Version.current
  /// The model before tuning, as named in the request.
  public var base: String
  /// The model after tuning.
  public var tuned: String
  /// Where the page went.
  public var html: String?
  /// One entry for each tensor of either model.
  public var modules: [TensorSpectrum]
  /// The sums.
  public var totals: Totals
  /// What the user should know.
  public var warnings: [String] = []

  init(_ request: SpectrumRequest, modules: [TensorSpectrum]) {
    base = request.base
    tuned = request.tuned
    self.modules = modules
    totals = Totals(modules, values: request.values)
  }
}

extension SpectrumReport.Totals {
  fileprivate init(_ modules: [TensorSpectrum], values: Int) {
    let matrices = modules.filter { $0.action == .decomposed }
    tensors = modules.count
    self.matrices = matrices.count
    changed = modules.count { $0.action == .decomposed || $0.action == .full }
    deltaNorm = Self.norm(modules)
    matrixNorm = Self.norm(matrices)
    fullBytes = modules.reduce(0) { $0 + ($1.action == .full ? $1.bytes ?? 0 : 0) }
    ranks = Self.ladder(upTo: min(values, matrices.map(\.shorterSide).max() ?? 0)).map { rank in
      SpectrumReport.RankCost(
        rank: rank,
        bytes: matrices.reduce(0) { $0 + min(rank, $1.shorterSide) * ($1.bytesPerRank ?? 0) },
        capturedEnergy: Self.share(matrices) { $0.capturedEnergy(rank: rank) })
    }
    policies = SpectrumPolicy.all.indices.map { Self.total(of: matrices, policy: $0) }
  }

  private static func norm(_ modules: [TensorSpectrum]) -> Double {
    modules.reduce(0) { $0 + ($1.deltaNorm ?? 0) * ($1.deltaNorm ?? 0) }.squareRoot()
  }

  /// Powers of two, and the last rank there is.
  private static func ladder(upTo last: Int) -> [Int] {
    var ranks: [Int] = []
    var rank = 1
    while rank < last {
      ranks.append(rank)
      rank *= 2
    }
    return last > 0 ? ranks + [last] : []
  }

  /// The mean of `captured`, weighed by the energy of the deltas.
  private static func share(
    _ matrices: [TensorSpectrum], _ captured: (TensorSpectrum) -> Double
  ) -> Double {
    let total = matrices.reduce(0) { $0 + ($1.spectrum?.totalEnergy ?? 0) }
    let sum = matrices.reduce(0) { $0 + captured($1) * ($1.spectrum?.totalEnergy ?? 0) }
    return total > 0 ? sum / total : 0
  }

  private static func total(
    of matrices: [TensorSpectrum], policy index: Int
  ) -> SpectrumReport.PolicyTotal {
    let decided = matrices.filter { $0.policies?[index].rank != nil }
    let outcomes = decided.compactMap { $0.policies?[index] }
    return SpectrumReport.PolicyTotal(
      option: SpectrumPolicy.all[index].option, leastRank: outcomes.compactMap(\.rank).min(),
      largestRank: outcomes.compactMap(\.rank).max(), undecided: matrices.count - decided.count,
      bytes: outcomes.reduce(0) { $0 + ($1.bytes ?? 0) },
      capturedEnergy: decided.isEmpty
        ? nil : share(decided) { $0.policies?[index].capturedEnergy ?? 0 })
  }
}

extension TensorSpectrum {
  /// The largest rank that the matrix can have.
  var shorterSide: Int { min(shape.rows, shape.columns) }
}
