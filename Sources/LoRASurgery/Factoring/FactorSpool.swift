import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// Rounds factors to their storage dtype and lets them wait in a spool until the adapter is laid out.
struct FactorSpool: Sendable {
  let spool: SpoolFile
  /// The dtype of everything that is stored; `nil` keeps that of the sources.
  let dtype: DType?
  let allowOverflow: Bool

  /// A pair that waits, of one matrix or of a stack, with the values that its storage dtype left of it.
  struct Pair: Sendable {
    /// `out x rank`; in a stack the rows of one matrix after those of the other.
    var up: Factor
    /// `rank x in`; in a stack the rows of one matrix after those of the other.
    var down: Factor
    /// One for each matrix.
    var rounded: [Factors<Double>]

    /// The rank of each matrix.
    var rank: Int { rounded.first?.rank ?? 0 }

    /// The update that the pair is, in `out x in` orientation.
    func update(form: LowRank.Form, isTransposed: Bool = false) throws(SurgeryError) -> LowRank {
      isTransposed
        ? try LowRank(up: down.transposed(), down: up.transposed(), form: form)
        : try LowRank(up: up, down: down, form: form)
    }
  }

  /// Stores a pair.
  ///
  /// - Throws: `dtype.overflow` where finite values do not fit, unless that is allowed; what writing throws.
  func store(_ factors: Factors<Double>, like dtype: DType) throws(SurgeryError) -> Pair {
    try store([factors], like: dtype)
  }

  /// Stores the pairs of a stack in two tensors.
  ///
  /// - Parameters:
  ///   - factors: At least one pair; all of one shape and rank.
  ///   - dtype: The dtype where none is asked for.
  /// - Returns: The pair of the stack.
  /// - Throws: `dtype.overflow` where finite values do not fit, unless that is allowed; what writing throws.
  func store(_ factors: [Factors<Double>], like dtype: DType) throws(SurgeryError) -> Pair {
    let dtype = storageDType(like: dtype)
    let (up, ups) = try store(Matrix(stacking: factors.map(\.up)), as: dtype)
    let (down, downs) = try store(Matrix(stacking: factors.map(\.down)), as: dtype)
    return Pair(
      up: Factor(up), down: Factor(down),
      rounded: zip(ups.parted(into: factors.count), downs.parted(into: factors.count)).map {
        Factors(up: $0, down: $1)
      })
  }

  /// Stores one matrix under the shape that it has, or a given one.
  func store(
    _ matrix: Matrix<Double>, as dtype: DType, shape: Shape? = nil
  ) throws(SurgeryError) -> (tensor: StoredTensor, rounded: Matrix<Double>) {
    var rounding = Rounding<Double>(to: dtype)
    var rounded = matrix
    try rounded.withElements { (values) throws(SurgeryError) in try rounding.round(&values) }
    if rounding.loss.overflowed > 0, !allowOverflow {
      throw SurgeryError(
        .data, "dtype.overflow", "\(rounding.loss.overflowed) finite values do not fit \(dtype)",
        hint: "--dtype bf16 or f32 holds them; --allow-overflow accepts the loss")
    }
    let shape = shape ?? Shape(rows: matrix.rows, columns: matrix.columns)
    guard let info = TensorInfo(name: "factor", dtype: dtype, shape: shape) else {
      throw SurgeryError(.bug, "bug.factor-size", "a factor of \(shape) \(dtype) has no size")
    }
    var bytes = [UInt8](repeating: 0, count: info.byteCount)
    var span = bytes.mutableSpan
    var target = unsafe span.mutableBytes
    _ = Double.narrow(rounded.elements.span, to: dtype, into: &target)
    return (try unsafe spool.append(bytes.span.bytes, as: info), rounded)
  }

  private func storageDType(like stored: DType) -> DType { dtype ?? stored }
}

extension Matrix {
  /// The rows of matrices of one width, those of one after those of the other.
  init(stacking matrices: [Matrix]) {
    self.init(
      rows: matrices.reduce(0) { $0 + $1.rows }, columns: matrices.first?.columns ?? 0,
      elements: matrices.count == 1 ? matrices[0].elements : matrices.flatMap(\.elements))
  }

  /// The matrices of equal height that make this one.
  func parted(into count: Int) -> [Matrix] {
    if count == 1 { return [self] }
    let height = rows / count
    return (0..<count).map { part in
      let first = part * height * columns
      return Matrix(
        rows: height, columns: columns,
        elements: Array(elements[first..<first + height * columns]))
    }
  }
}

extension Factors<Double> {
  /// The pair with `up` multiplied.
  func scaled(by factor: Double) -> Self {
    factor == 1
      ? self
      : Factors(
        up: Matrix(
          rows: up.rows, columns: up.columns, elements: up.elements.map { $0 * factor }),
        down: down)
  }

  /// The pair whose product is the sum of the products of all; the ranks add up.
  static func sum(of pairs: [Self]) -> Self? {
    guard let first = pairs.first else { return nil }
    let rank = pairs.reduce(0) { $0 + $1.rank }
    var up: [Double] = []
    up.reserveCapacity(first.up.rows * rank)
    for row in 0..<first.up.rows {
      for pair in pairs {
        up += pair.up.elements[(row * pair.rank)..<((row + 1) * pair.rank)]
      }
    }
    return Factors(
      up: Matrix(rows: first.up.rows, columns: rank, elements: up),
      down: Matrix(
        rows: rank, columns: first.down.columns, elements: pairs.flatMap(\.down.elements)))
  }

  /// The squared Frobenius norm of the product, from the product's singular values: no cancellation.
  func squaredNorm() throws(SurgeryError) -> Double {
    try ProductSVD(self).singularValues.reversed().reduce(0) { $0 + $1 * $1 }
  }

  /// The squared Frobenius norm of the difference of two products.
  func squaredDistance(to other: Self) throws(SurgeryError) -> Double {
    try Self.sum(of: [self, other.scaled(by: -1)])?.squaredNorm() ?? 0
  }
}
