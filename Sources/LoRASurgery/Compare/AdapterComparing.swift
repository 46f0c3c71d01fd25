import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Compares two adapters by their deltas, across dialects and ranks.
///
/// Of low-rank updates the delta is never formed: with `D = s · up · down`, the inner product of two deltas is
/// `s₁ s₂ Σ (up₁' up₂) ∘ (down₁ down₂')`, sums of small Gram matrices in float64.
struct AdapterComparing {
  let tolerance: Double

  /// Differences below this are within what the Gram matrices can tell: the square root of float64's precision, for a few terms.
  private static let resolution = 1e-7

  /// One change of an adapter.
  struct Entry: Sendable {
    var name: TensorName
    var module: ModuleUpdate
    var adapter: Adapter
  }

  /// Whether both adapters tell the parts of a pipeline apart: one that speaks of a single model, as PEFT's do, says nothing of
  /// which part that is.
  static func haveComponents(_ first: Adapter, _ second: Adapter) -> Bool {
    let (ours, theirs) = (
      Set(first.modules.map(\.target.component)), Set(second.modules.map(\.target.component))
    )
    return ours.count > 1 || theirs.count > 1 || ours != [nil] && theirs != [nil]
  }

  /// The changes of an adapter, by a name that no dialect's spelling has a part in.
  static func entries(of adapter: Adapter, withComponents: Bool) -> [String: Entry] {
    Dictionary(
      adapter.modules.map { module in
        let name = module.target.tensorName
        let component: String
        switch withComponents ? module.target.component : nil {
        case .denoiser: component = "denoiser "
        case .textEncoder(let number): component = "text encoder \(number) "
        case nil: component = ""
        }
        return (
          component + name.replacing(".", with: "_"),
          Entry(name: TensorName(name), module: module, adapter: adapter)
        )
      }, uniquingKeysWith: { first, _ in first })
  }

  /// Compares the changes of one tensor.
  func compare(_ first: Entry, _ second: Entry) throws(SurgeryError) -> PairSums {
    let shape = Shape(rows: first.module.update.rows, columns: first.module.update.columns)
    guard shape == Shape(rows: second.module.update.rows, columns: second.module.update.columns)
    else { return PairSums(TensorComparison(first.name, .shape, shape: shape)) }
    let scales = (
      try first.module.knownScale(of: first.adapter),
      try second.module.knownScale(of: second.adapter)
    )
    let sums = try products(first.module.update, second.module.update, scales)
    guard let sums else {
      let isSame = try first.module.update.hasSameFactors(as: second.module.update)
      return PairSums(
        TensorComparison(
          first.name, isSame && scales.0 == scales.1 ? .identical : .different, shape: shape))
    }
    var comparison = TensorComparison(first.name, .different, shape: shape)
    let squared = max(0, sums.first + sums.second - 2 * sums.product)
    let error = sums.second > 0 ? (squared / sums.second).squareRoot() : squared.squareRoot()
    comparison.relativeError = error
    let norms = (sums.first * sums.second).squareRoot()
    comparison.cosine = norms > 0 ? min(1, sums.product / norms) : nil
    comparison.ranks = [first.module.update.rank, second.module.update.rank].compactMap { $0 }
    comparison.verdict =
      error <= max(tolerance, Self.resolution) ? .close : .different
    var pair = PairSums(comparison)
    pair.squaredDifference = squared
    pair.squaredSecond = sums.second
    return pair
  }

  /// Both squared norms and the inner product; `nil` where a delta depends on the base.
  private func products(
    _ first: any Update, _ second: any Update, _ scales: (Double, Double)
  ) throws(SurgeryError) -> (first: Double, second: Double, product: Double)? {
    if let a = first as? LowRank, let b = second as? LowRank, a.core == nil, b.core == nil {
      let (left, right) = (try a.matrices(), try b.matrices())
      return (
        scales.0 * scales.0 * Self.innerProduct(left, left),
        scales.1 * scales.1 * Self.innerProduct(right, right),
        scales.0 * scales.1 * Self.innerProduct(left, right)
      )
    }
    let left = try first.loaded(scale: scales.0, as: Double.self)
    let right = try second.loaded(scale: scales.1, as: Double.self)
    var sums = (first: 0.0, second: 0.0, product: 0.0)
    let geometry = BlockGeometry(rows: first.rows, columns: first.columns, isWhole: false)
    for block in 0..<geometry.count {
      let rows = geometry.rows(of: block)
      guard let a = left.delta(rows: rows, columns: 0..<first.columns),
        let b = right.delta(rows: rows, columns: 0..<first.columns)
      else { return nil }
      for index in a.elements.indices {
        sums.first += a.elements[index] * a.elements[index]
        sums.second += b.elements[index] * b.elements[index]
        sums.product += a.elements[index] * b.elements[index]
      }
    }
    return sums
  }

  private static func innerProduct(
    _ first: (up: Matrix<Double>, down: Matrix<Double>),
    _ second: (up: Matrix<Double>, down: Matrix<Double>)
  ) -> Double {
    let ups = product(first.up, second.up, transposeFirst: true)
    let downs = product(first.down, second.down, transposeSecond: true)
    var sum = 0.0
    for index in ups.elements.indices { sum += ups.elements[index] * downs.elements[index] }
    return sum
  }
}

extension LowRank {
  fileprivate func matrices() throws(SurgeryError) -> (up: Matrix<Double>, down: Matrix<Double>) {
    (try up.matrix(of: Double.self), try down.matrix(of: Double.self))
  }
}

extension Update {
  /// Whether both are of one family with the same stored bytes.
  fileprivate func hasSameFactors(as other: any Update) throws(SurgeryError) -> Bool {
    let (own, others) = (factors, other.factors)
    guard algorithm == other.algorithm, own.count == others.count else { return false }
    for (left, right) in zip(own, others) {
      guard left.rows == right.rows, left.columns == right.columns, left.dtype == right.dtype,
        try left.bytes() == right.bytes()
      else { return false }
    }
    return true
  }
}
