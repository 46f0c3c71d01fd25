import Checkpoints
public import LinearAlgebra
public import Tensors

/// `W + s · up · down`, for linear layers, embeddings and convolutions.
///
/// For a convolution `down` is `rank x (in · kernel)` (PEFT `lora_B.reshape @ lora_A.reshape`; peft:src/peft/tuners/lora/layer.py). With a
/// core, the CP form of LyCORIS: `delta[p, q, k] = Σ up[p, i] · core[i, j, k] · down[j, q]`
/// (LyCORIS:lycoris/functional/general.py).
public struct LowRank: Update {
  /// What kind of layer the factors belong to; the arithmetic is the same, their spelling on disk is not.
  public enum Form: Sendable, Hashable {
    /// A matrix.
    case linear
    /// A convolution with this kernel; a 1 x 1 kernel is `[1, 1]`.
    case convolution(kernel: [Int])
    /// An embedding, of which the rows are the vocabulary.
    case embedding
  }

  /// `out x rank`.
  public var up: Factor
  /// `rank x in`, with the kernel in its columns where there is no core.
  public var down: Factor
  /// `(rank · rank) x kernel`, where there is one.
  public var core: Factor?
  /// What the factors belong to.
  public var form: Form
  /// The family's name in reports.
  public var algorithm: String { "lora" }
  /// Names the kind of layer, or the core, that not every dialect has.
  public var summary: String {
    if core != nil { return "a low-rank update with a core" }
    return switch form {
    case .linear: "an update of kind \(algorithm)"
    case .embedding: "factors of an embedding"
    case .convolution: "factors of a convolution"
    }
  }

  /// Describes a low-rank update.
  ///
  /// - Parameters:
  ///   - up: `out x rank`.
  ///   - down: `rank x in`, kernel included unless there is a core.
  ///   - core: `(rank · rank) x kernel`.
  ///   - form: What kind of layer it is.
  /// - Throws: `adapter.shape` where the inner sizes differ.
  public init(
    up: Factor, down: Factor, core: Factor? = nil, form: Form = .linear
  ) throws(SurgeryError) {
    guard up.columns == down.rows else {
      throw SurgeryError.adapter(
        "shape", "the factors have different ranks", file: up.tensor.source.file.path,
        key: up.tensor.name.text,
        expected: "\(down.rows) as in \(down.tensor.name.text)",
        found: "\(up.columns) of shape \(up.tensor.info.shape)")
    }
    if let core, core.rows != up.columns * up.columns {
      throw SurgeryError.adapter(
        "shape", "the middle factor does not fit the rank", file: core.tensor.source.file.path,
        key: core.tensor.name.text, expected: "\(up.columns) x \(up.columns) x kernel",
        found: "\(core.tensor.info.shape)")
    }
    for factor in [up, down] + (core.map { [$0] } ?? []) where !factor.dtype.isFloatingPoint {
      throw factor.notFloating
    }
    self.up = up
    self.down = down
    self.core = core
    self.form = form
  }

  /// Outputs.
  public var rows: Int { up.rows }
  /// Inputs, kernel included.
  public var columns: Int { down.columns * (core?.columns ?? 1) }
  /// Columns of `up`.
  public var rank: Int? { up.columns }
  /// The rank.
  public var productRank: Int? { up.columns }
  /// Reproducible, unless BLAS multiplies a core into `down`.
  public var isReproducible: Bool { core == nil }
  /// The factors.
  public var factors: [Factor] { [down, up] + (core.map { [$0] } ?? []) }

  /// Reads the factors; a core is multiplied into `down`.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    try loadedFactors(scale: scale, as: Scalar.self)
  }

  /// The factors in memory, under their own type.
  func loadedFactors<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> LoadedLowRank<Scalar> {
    let pair = try product(as: Scalar.self)
    return LoadedLowRank(up: pair.up, down: pair.down, scale: scale)
  }

  /// Reads the factors; a core is multiplied into `down`.
  public func products<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> [Factors<Scalar>]? { [try product(as: Scalar.self)] }

  /// The factors, with a core multiplied into `down`.
  func product<Scalar: BLASScalar>(
    as scalar: Scalar.Type
  ) throws(SurgeryError) -> Factors<Scalar> {
    var inner = try down.matrix(of: Scalar.self)
    if let core { inner = foldedCore(try core.matrix(of: Scalar.self), into: inner) }
    return Factors(up: try up.matrix(of: Scalar.self), down: inner)
  }

  /// Row *i* of the result is `Σ_j core[i, j, k] · down[j, q]` over *(q, k)*.
  private func foldedCore<Scalar: BLASScalar>(
    _ core: Matrix<Scalar>, into down: Matrix<Scalar>
  ) -> Matrix<Scalar> {
    let rank = down.rows
    var elements: [Scalar] = []
    elements.reserveCapacity(rank * down.columns * core.columns)
    for i in 0..<rank {
      let slice = core.block(rows: (i * rank)..<((i + 1) * rank), columns: 0..<core.columns)
      elements += LinearAlgebra.product(down, slice, transposeFirst: true).elements
    }
    return Matrix(rows: rank, columns: down.columns * core.columns, elements: elements)
  }
}

/// Low-rank factors in memory.
struct LoadedLowRank<Scalar: BLASScalar>: AdditiveUpdate {
  let up: Matrix<Scalar>
  let down: Matrix<Scalar>
  let scale: Double
  private let product: PackedProduct<Scalar>

  init(up: Matrix<Scalar>, down: Matrix<Scalar>, scale: Double) {
    self.up = up
    self.down = down
    self.scale = scale
    product = PackedProduct(up: up, down: down)
  }

  func change(rows: Range<Int>, columns: Range<Int>) -> Matrix<Scalar> {
    var result = Matrix<Scalar>(rows: rows.count, columns: columns.count)
    product.add(to: &result, rows: rows, columns: columns, times: Scalar(scale))
    return result
  }

  func apply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    product.add(to: &block, rows: rows, columns: columns, times: Scalar(scale * weight))
  }

  func unapply(
    to block: inout Matrix<Scalar>, rows: Range<Int>, columns: Range<Int>, weight: Double
  ) {
    product.add(to: &block, rows: rows, columns: columns, times: Scalar(-scale * weight))
  }

  func add(
    to source: RawSpan, of dtype: DType, into target: inout MutableRawSpan, rows: Range<Int>,
    weight: Double
  ) -> AdditionSums? {
    product.add(to: source, of: dtype, into: &target, rows: rows, times: scale * weight)
  }
}

extension Matrix {
  /// Multiplies every element.
  mutating func scale(by factor: Scalar) {
    if factor == 1 { return }
    withElements { scaleElements(&$0, by: factor) }
  }
}

@specialized(where Scalar == Float)
@specialized(where Scalar == Double)
private func scaleElements<Scalar: BLASScalar>(
  _ elements: inout MutableSpan<Scalar>, by factor: Scalar
) {
  for i in elements.indices { elements[i] *= factor }
}
