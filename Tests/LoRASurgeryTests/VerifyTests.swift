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

  @Test func lowPrecisionIsNamed() throws {
    let pair = try Pair(.f32, shapes: [[64, 48]], delta: 0.05, seed: 35)
    var merged = pair.reference()
    // As a merge does that sums in bfloat16 and stores float32.
    let rounded = Stored("", .bf16, [64, 48], pair.delta(0)).values
    merged[0] = Stored(
      merged[0].name, .f32, [64, 48], zip(pair.tensors[0].values, rounded).map { $0 + $1 })
    let report = try verify(pair, merged)
    #expect(!report.verified)
    #expect([.lowPrecision, .wrongScale].contains(report.accident))
    #expect(try abs(#require(report.modules.first?.factor) - 1) < 0.01)
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
