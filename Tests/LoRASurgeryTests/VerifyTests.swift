import LoRASurgery
import Tensors
import Testing

@Suite struct VerifyTests {
  /// Verifies what a test put in place of the merged model.
  func verify(_ pair: Pair, _ merged: [Stored]) throws -> VerifyReport {
    try Files.write(merged, to: pair.merged)
    return try VerifyRequest(
      base: pair.base, adapters: [WeightedAdapter(pair.adapter)], merged: pair.merged
    ).run()
  }

  @Test(arguments: [DType.bf16, .f16, .f32])
  func whatMergingGivesIsVerified(dtype: DType) throws {
    let pair = try Pair(dtype, shapes: [[60, 50], [64, 64]], seed: 31)
    #expect(try verify(pair, pair.reference()).verified)
    var shifted = pair.reference()
    shifted[0].bytes[20] ^= 1
    let report = try verify(pair, shifted)
    #expect(report.verified)
    #expect(report.modules.first?.verdict == .close)
  }

  @Test(arguments: [
    (0.0, TensorVerification.Accident.notApplied), (2, .mergedTwice), (-1, .subtracted),
    (0.5, .wrongScale), (1.7320508, .wrongScale), (0.3, .wrongScale),
  ])
  func wrongFactorsAreNamed(factor: Double, accident: TensorVerification.Accident) throws {
    for dtype in [DType.bf16, .f32] {
      let pair = try Pair(dtype, shapes: [[60, 50], [64, 64]], delta: 0.05, seed: 32)
      let report = try verify(pair, pair.reference(factor))
      #expect(!report.verified)
      #expect(report.accident == accident, "\(dtype) \(report.modules)")
      if factor == 1.7320508 {
        #expect(report.modules.first?.reason?.contains("sqrt(r)") == true)
      }
    }
  }

  /// Types of which only the bytes are moved are equal or not, never computed with.
  @Test func typesThatAreNoNumbersAreCompared() throws {
    let pair = try Pair(.f32, shapes: [[8, 6]], seed: 35)
    var base = pair.tensors
    base.append(Stored("codes", .f8e8m0, [4], bytes: [1, 2, 3, 4]))
    try Files.write(base, to: pair.base)
    func codes(_ stored: Stored) throws -> TensorVerification? {
      try verify(pair, pair.reference() + [stored]).modules.first { $0.tensor == "codes" }
    }
    var merged = base[2]
    #expect(try codes(merged)?.verdict == .exact)
    merged.bytes = [1, 2, 3, 5]
    #expect(try codes(merged)?.verdict == .off)
    merged.dtype = .f8e4m3fnuz
    let other = try codes(merged)
    #expect(other?.verdict == .dtype && other?.reason == "F8_E4M3FNUZ instead of F8_E8M0")
  }

  @Test func transposedAndForeignAreNamed() throws {
    let pair = try Pair(.f32, shapes: [[64, 64]], seed: 33)
    var merged = pair.tensors
    merged[0] = Stored(
      merged[0].name, .f32, [64, 64],
      zip(merged[0].values, pair.delta(0, transposed: true)).map { $0 + $1 })
    #expect(try verify(pair, merged).accident == .transposed)
    let other = try Pair(.f32, shapes: [[64, 64]], seed: 34)
    merged[0] = Stored(
      merged[0].name, .f32, [64, 64], zip(other.tensors[0].values, pair.delta(0)).map { $0 + $1 })
    #expect(try verify(pair, merged).accident == .otherBase)
  }

  /// Of a small delta in bfloat16, what another adapter adds is no more than a few roundings would, but not where they would be.
  @Test func anotherAdapterIsNoRounding() throws {
    let pair = try Pair(.bf16, shapes: [[128, 128]], rank: 6, alpha: 18, delta: 2e-4, seed: 35)
    var random = Seeded(36)
    let other = random.normals(128 * 128, times: 5e-4)
    var merged = pair.tensors
    let sums = zip(merged[0].values, zip(pair.delta(0), other)).map { $0 + $1.0 + $1.1 }
    merged[0] = Stored(merged[0].name, .bf16, [128, 128], sums)
    let report = try verify(pair, merged)
    #expect(report.accident == .otherBase, "\(report.modules[0])")
  }

  /// What is done to base and delta instead of adding them, and what it is to be called.
  struct Mistake: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var accident: TensorVerification.Accident?
    var reason = ""
    var merged: @Sendable (_ base: Stored, _ delta: [Double], _ rank: Double) -> Stored
  }

  private static func times(_ factor: @escaping @Sendable (Double) -> Double)
    -> @Sendable (Stored, [Double], Double) -> Stored
  {
    { base, delta, rank in sum(base, delta.map { factor(rank) * $0 }) }
  }

  private static func sum(_ base: Stored, _ delta: [Double]) -> Stored {
    Stored(base.name, base.dtype, base.shape, zip(base.values, delta).map { $0 + $1 })
  }

  /// Values as a dtype holds them.
  private static func rounded(_ values: [Double], _ dtype: DType) -> [Double] {
    Stored("", dtype, [values.count], values).values
  }

  static let mistakes: [Mistake] = [
    Mistake(testDescription: "none", accident: nil, merged: times { _ in 1 }),
    Mistake(testDescription: "twice at once", accident: .mergedTwice, merged: times { _ in 2 }),
    Mistake(testDescription: "once after the other", accident: .mergedTwice) { base, delta, _ in
      sum(sum(base, delta), delta)
    },
    Mistake(testDescription: "never", accident: .notApplied, merged: times { _ in 0 }),
    Mistake(testDescription: "merged and taken out", accident: .notApplied) { base, delta, _ in
      sum(sum(base, delta), delta.map { -$0 })
    },
    Mistake(testDescription: "subtracted", accident: .subtracted, merged: times { _ in -1 }),
    Mistake(
      testDescription: "sqrt(r)", accident: .wrongScale, reason: "alpha / sqrt(r) instead",
      merged: times { $0.squareRoot() }),
    Mistake(
      testDescription: "r", accident: .wrongScale, reason: "alpha / r instead",
      merged: times { 1 / $0.squareRoot() }),
    Mistake(
      testDescription: "alpha alone", accident: .wrongScale, reason: "alpha instead",
      merged: times { $0 }),
    Mistake(
      testDescription: "no alpha", accident: .wrongScale, reason: "alpha was left out",
      merged: times { 1 / (3 * $0) }),
    Mistake(
      testDescription: "no scale", accident: .wrongScale, reason: "the scale was left out",
      merged: times { _ in 1 / 3.0 }),
    Mistake(
      testDescription: "halved", accident: .wrongScale, reason: "halved",
      merged: times { _ in 0.5 }),
    Mistake(
      testDescription: "0.7", accident: .wrongScale, reason: "factor 0.7",
      merged: times { _ in 0.7 }),
    Mistake(testDescription: "transposed", accident: .transposed) { base, delta, _ in
      let size = base.shape[0]
      return sum(base, delta.indices.map { delta[$0 % size * size + $0 / size] })
    },
    Mistake(testDescription: "other base", accident: .otherBase) { base, delta, _ in
      var random = Seeded(77)
      return sum(
        Stored(base.name, base.dtype, base.shape, random.normals(delta.count, times: 0.1)), delta)
    },
    Mistake(testDescription: "trained further", accident: .otherBase) { base, delta, _ in
      var random = Seeded(78)
      return sum(base, zip(delta, random.normals(delta.count, times: 0.05)).map { $0 + $1 })
    },
    Mistake(testDescription: "coarse delta", accident: .lowPrecision, reason: "low precision") {
      base, delta, _ in
      sum(base, rounded(delta.map { $0 / 3 }, .bf16).map { 3 * $0 })
    },
    Mistake(
      testDescription: "coarse model", accident: .lowPrecision, reason: "rounded to BF16 on the way"
    ) { base, delta, _ in
      let values = zip(base.values, delta).map { $0 + $1 }
      return Stored(base.name, base.dtype, base.shape, rounded(values, .bf16))
    },
  ]

  @Test(arguments: mistakes, [DType.bf16, .f16, .f32])
  func mistakesAreNamed(_ mistake: Mistake, dtype: DType) throws {
    if mistake.testDescription == "coarse model", dtype == .bf16 { return }
    for size in [8, 64] {
      for delta in [0.1, 0.01] {
        let pair = try Pair(
          dtype, shapes: [[size, size]], rank: 6, alpha: 18, delta: delta, seed: 40)
        var merged = pair.tensors
        merged[0] = mistake.merged(pair.tensors[0], pair.delta(0), 6)
        let report = try verify(pair, merged)
        // Of 64 elements in bfloat16, a small delta is too little to be sure of what rounding left.
        if size == 8, delta == 0.01, dtype == .bf16 { continue }
        #expect(report.accident == mistake.accident, "\(size) \(delta) \(report.modules[0])")
        #expect(report.verified == (mistake.accident == nil))
        #expect(
          mistake.reason.isEmpty || report.explanation?.contains(mistake.reason) == true,
          "\(report.modules[0])")
      }
    }
  }

  /// Merges as PEFT does it in single precision, with the products summed from either end.
  @Test(arguments: [8, 16, 32, 64], [false, true])
  func anotherOrderOfSummationIsNoMistake(size: Int, reversed: Bool) throws {
    for (rank, seed) in [(1, UInt64(50)), (4, 51), (8, 52), (16, 53)] {
      let pair = try Pair(
        .f32, shapes: [[size, size]], rank: rank, alpha: 16, delta: 0.1, seed: seed)
      let (up, down) = (pair.factors[0].up.values, pair.factors[0].down.values)
      var merged = pair.tensors
      merged[0] = Stored(
        merged[0].name, .f32, [size, size],
        merged[0].values.enumerated().map { index, base in
          let (row, column) = (index / size, index % size)
          var sum: Float = 0
          for step in 0..<rank {
            let k = reversed ? rank - 1 - step : step
            sum += Float(up[row * rank + k]) * Float(down[k * size + column])
          }
          return Double(Float(base) + sum * Float(pair.scale))
        })
      let report = try verify(pair, merged)
      #expect(report.verified, "\(report.modules)")
      #expect(report.accident == nil)
      // Ten units of the largest delta are no matter of order.
      let largest = pair.delta(0).map(\.magnitude).max() ?? 0
      merged[0] = Stored(
        merged[0].name, .f32, [size, size],
        merged[0].values.enumerated().map { $1 + ($0 == 5 ? 10 * 0x1p-23 * largest : 0) })
      #expect(try !verify(pair, merged).verified)
    }
  }

  /// With what factors two adapters of weights 0.7 and 0.3 are in a model, and what that is to be called.
  struct Shares: Sendable {
    var factors: (Double, Double)
    var accident: TensorVerification.Accident?
    var reasons: [String] = []
  }

  @Test(
    arguments: [
      Shares(factors: (0.7, 0.3)),
      Shares(
        factors: (0.7, 0), accident: .notApplied,
        reasons: ["adapter 2: none of the delta is there"]),
      Shares(factors: (0, 0.3), accident: .notApplied, reasons: ["adapter 1: none"]),
      Shares(factors: (0.7, 0.6), accident: .mergedTwice, reasons: ["adapter 2: the delta is"]),
      Shares(factors: (-0.7, 0.3), accident: .subtracted, reasons: ["adapter 1: the delta was"]),
      Shares(
        factors: (1, 1), accident: .wrongScale,
        reasons: ["adapter 1: factor 1.429: the weight", "adapter 2: factor 3.333: the weight"]),
      Shares(
        factors: (0.7 * 3.squareRoot(), 0.6), accident: .wrongScale,
        reasons: [
          "adapter 1: factor 1.732: alpha / sqrt(r)", "adapter 2: the delta is there twice",
        ]),
      Shares(factors: (0.7, 0.12), accident: .wrongScale, reasons: ["adapter 2: factor 0.4 of"]),
      Shares(factors: (0.35, 0.15), accident: .wrongScale, reasons: ["factor 0.5: the delta is"]),
      Shares(factors: (0.42, 0.18), accident: .wrongScale, reasons: ["factor 0.6 of the"]),
      Shares(factors: (1.4, 0.6), accident: .mergedTwice, reasons: ["the delta is there twice"]),
    ], [DType.bf16, .f32, .f64])
  func theAdapterThatIsNotRightIsNamed(_ shares: Shares, dtype: DType) throws {
    let pair = try Pair(dtype, shapes: [[30, 20], [24, 24]], delta: 0.05, seed: 61)
    let second = try Pair(
      dtype, shapes: [[30, 20], [24, 24]], rank: 5, alpha: 15, delta: 0.05, seed: 62)
    var merged = pair.tensors
    for index in 0..<2 {
      let (base, first, other) = (
        merged[index].values, pair.delta(index), second.delta(index)
      )
      merged[index] = Stored(
        merged[index].name, dtype, merged[index].shape,
        base.indices.map {
          base[$0] + shares.factors.0 * first[$0] + shares.factors.1 * other[$0]
        })
    }
    try Files.write(merged, to: pair.merged)
    let report = try VerifyRequest(
      base: pair.base,
      adapters: [
        WeightedAdapter(pair.adapter, weight: 0.7), WeightedAdapter(second.adapter, weight: 0.3),
      ], merged: pair.merged
    ).run()
    #expect(report.verified == (shares.accident == nil), "\(report.modules)")
    #expect(report.accident == shares.accident, "\(report.modules)")
    for reason in shares.reasons {
      #expect(report.modules[0].reason?.contains(reason) == true, "\(report.modules[0])")
    }
  }

  @Test func untouchedMissingAndExtraTensorsCount() throws {
    let pair = try Pair(.bf16, shapes: [[20, 20]], seed: 36)
    var merged = pair.reference()
    merged[1] = Stored("norm.weight", .bf16, [5], [1, 2, 3, 4, 5])
    #expect(try verify(pair, merged).accident == .untouchedChanged)
    merged[1].name = "other.weight"
    let verdicts = try verify(pair, merged).modules.map(\.verdict)
    #expect(verdicts.contains(.missing) && verdicts.contains(.extra))
  }
}
