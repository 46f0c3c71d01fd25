import Checkpoints
public import LinearAlgebra
public import Tensors

/// VB-LoRA: factors put together of vectors from a bank that all modules share.
///
/// Li et al. 2024, arXiv:2405.15179; peft:src/peft/tuners/vblora/layer.py. Each piece of a factor is the sum of the
/// bank's vectors that have the largest logits, weighted by their softmax.
public struct VectorBank: Update {
  /// Which vectors a factor is made of.
  public enum Choice: Sendable {
    /// Logits of all vectors, one row for each piece; this many of the largest count.
    case logits(Factor, most: Int)
    /// The indices of the vectors and all weights but the last, which makes their sum 1.
    case chosen(indices: Factor, weights: Factor)

    /// Pieces of the factor.
    var pieces: Int {
      switch self {
      case .logits(let logits, _): logits.rows
      case .chosen(let indices, _): indices.rows
      }
    }

    var factors: [Factor] {
      switch self {
      case .logits(let logits, _): [logits]
      case .chosen(let indices, let weights): [indices, weights]
      }
    }

    func checkNumbers() throws(SurgeryError) {
      switch self {
      case .logits(let logits, _):
        guard logits.dtype.isFloatingPoint else { throw logits.notFloating }
      case .chosen(let indices, let weights):
        guard indices.dtype.isNumeric else { throw indices.notNumeric }
        guard weights.dtype.isFloatingPoint else { throw weights.notFloating }
      }
    }
  }

  /// `vectors x length`.
  public var bank: Factor
  /// The pieces of `down`, rank by rank.
  public var down: Choice
  /// The pieces of `up`, run of outputs by run, rank fastest.
  public var up: Choice
  private let ranks: Int

  /// Describes factors out of a bank.
  ///
  /// - Parameters:
  ///   - bank: `vectors x length`.
  ///   - down: The pieces of `down`, rank by rank.
  ///   - up: The pieces of `up`, run of outputs by run, rank fastest.
  ///   - rank: The rank.
  /// - Throws: `adapter.shape` or `adapter.dtype`.
  public init(bank: Factor, down: Choice, up: Choice, rank: Int) throws(SurgeryError) {
    guard bank.dtype.isFloatingPoint else { throw bank.notFloating }
    try down.checkNumbers()
    try up.checkNumbers()
    guard rank > 0, down.pieces.isMultiple(of: rank), up.pieces.isMultiple(of: rank) else {
      throw SurgeryError.adapter(
        "shape", "the pieces of a factor do not fit the rank",
        file: bank.tensor.source.file.path, key: up.factors.first?.tensor.name.text,
        expected: "multiples of \(rank)", found: "\(down.pieces) and \(up.pieces)")
    }
    self.bank = bank
    self.down = down
    self.up = up
    ranks = rank
  }

  /// VB-LoRA.
  public var algorithm: String { "vblora" }
  /// Outputs.
  public var rows: Int { up.pieces / ranks * bank.columns }
  /// Inputs.
  public var columns: Int { down.pieces / ranks * bank.columns }
  /// The rank.
  public var rank: Int? { ranks }
  /// The bank and the choices.
  public var factors: [Factor] { [bank] + down.factors + up.factors }

  /// Reads bank and choices and puts the factors together, in double precision.
  public func loaded<Scalar: BLASScalar>(
    scale: Double, as scalar: Scalar.Type
  ) throws(SurgeryError) -> any LoadedUpdate<Scalar> {
    let vectors = try bank.matrix(of: Double.self)
    let right = try pieces(down, vectors)
    let left = try pieces(up, vectors)
    var upper = Matrix<Double>(rows: rows, columns: ranks)
    for run in 0..<(up.pieces / ranks) {
      for rank in 0..<ranks {
        for place in 0..<vectors.columns {
          upper[run * vectors.columns + place, rank] = left[run * ranks + rank, place]
        }
      }
    }
    let lower = Matrix(rows: ranks, columns: columns, elements: right.elements)
    return LoadedLowRank(
      up: upper.converted(to: Scalar.self), down: lower.converted(to: Scalar.self), scale: scale)
  }

  /// One row for each piece.
  private func pieces(
    _ choice: Choice, _ vectors: Matrix<Double>
  ) throws(SurgeryError) -> Matrix<Double> {
    var result = Matrix<Double>(rows: choice.pieces, columns: vectors.columns)
    for (piece, parts) in try weights(choice).enumerated() {
      for (vector, weight) in parts {
        for place in 0..<vectors.columns { result[piece, place] += weight * vectors[vector, place] }
      }
    }
    return result
  }

  private func weights(
    _ choice: Choice
  ) throws(SurgeryError) -> [[(vector: Int, weight: Double)]] {
    switch choice {
    case .logits(let logits, let most):
      let values = try logits.matrix(of: Double.self)
      return (0..<values.rows).map { row in
        let largest = (0..<values.columns).sorted {
          (values[row, $1], $0) < (values[row, $0], $1)
        }.prefix(most)
        let top = largest.first.map { values[row, $0] } ?? 0
        let exponentials = largest.map { exponential(values[row, $0] - top) }
        let sum = exponentials.reduce(0, +)
        return zip(largest, exponentials).map { ($0, $1 / sum) }
      }
    case .chosen(let indices, let weights):
      let places = try indices.indices(below: bank.rows)
      let count = indices.columns
      let stored =
        weights.count == 0 ? [] : try weights.matrix(of: Double.self).elements
      return (0..<indices.rows).map { row in
        let own = stored[(row * (count - 1))..<((row + 1) * (count - 1))]
        let all = own + [1 - own.reduce(0, +)]
        return zip(places[(row * count)..<((row + 1) * count)], all).map { ($0, $1) }
      }
    }
  }
}

/// `e` to a power, without Foundation: the Taylor series of the power halved until it is small, squared again.
private func exponential(_ power: Double) -> Double {
  if power < -745 { return 0 }
  var small = power
  var halvings = 0
  while abs(small) > 0.125 {
    small /= 2
    halvings += 1
  }
  var (term, sum) = (1.0, 1.0)
  for n in 1...16 {
    term *= small / Double(n)
    sum += term
  }
  for _ in 0..<halvings { sum *= sum }
  return sum
}
