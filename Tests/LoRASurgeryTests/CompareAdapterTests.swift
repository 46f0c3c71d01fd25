import Adapters
import LoRASurgery
import Tensors
import Testing

@Suite struct CompareAdapterTests {
  @Test func anotherRankWithTheSameDeltaIsEqual() throws {
    let pair = try Pair(.f32, shapes: [[30, 20]], rank: 3, alpha: 6, seed: 41)
    let (up, down) = (pair.factors[0].up, pair.factors[0].down)
    // Rank 4 with a direction of zeros and the factors exchanged a power of two: the same delta.
    let values = up.values
    var wideUp: [Double] = []
    for row in 0..<30 {
      for column in 0..<3 { wideUp.append(4 * values[row * 3 + column]) }
      wideUp.append(0)
    }
    let wideDown = down.values + (0..<20).map { Double($0) }
    let other = pair.scratch.file("other")
    try Files.writeAdapter(
      [
        Stored(up.name, .f32, [30, 4], wideUp),
        Stored(down.name, .f32, [4, 20], wideDown),
      ], to: other, rank: 4, alpha: 2)
    let report = try CompareRequest(pair.adapter, other).run()
    #expect(report.equal)
    #expect(report.modules.first?.ranks == [3, 4])
    #expect(try #require(report.modules.first?.cosine) > 0.999999)
  }

  /// PEFT's names say nothing of the part of a pipeline that kohya's prefix and ComfyUI's root name.
  @Test(arguments: [Dialect.kohya, .diffusers, .comfyui, .mlx])
  func anotherDialectOfTheSameAdapterIsEqual(_ dialect: Dialect) throws {
    let pair = try Pair(.f32, shapes: [[30, 20], [8, 6]], rank: 3, alpha: 6, seed: 44)
    let other = pair.scratch.file(dialect == .mlx ? "other" : "other.safetensors")
    var conversion = ConvertRequest(input: pair.adapter, output: other)
    conversion.dialect = dialect
    conversion.base = pair.base
    _ = try conversion.run()
    let report = try CompareRequest(pair.adapter, other).run()
    #expect(report.equal && report.modules.count == 2)
    #expect(report.modules.allSatisfy { [.close, .identical].contains($0.verdict) })
    let own = try CompareRequest(pair.adapter, pair.adapter).run()
    #expect(own.equal && own.modules.allSatisfy { $0.verdict == .identical })
  }

  @Test func differencesAreMeasuredAgainstTheDenseDeltas() throws {
    let (first, second) = (
      try Pair(.f32, shapes: [[30, 20]], seed: 42), try Pair(.f32, shapes: [[30, 20]], seed: 43)
    )
    let report = try CompareRequest(first.adapter, second.adapter, tolerance: 0.1).run()
    let (a, b) = (first.delta(0), second.delta(0))
    let difference = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let norm = b.reduce(0) { $0 + $1 * $1 }
    let expected = (difference / norm).squareRoot()
    #expect(!report.equal)
    #expect(abs(report.relativeError - expected) < 1e-9 * expected)
  }

  @Test func anAdapterIsNotComparedWithAModel() throws {
    let pair = try Pair(.f32, shapes: [[30, 20]], seed: 42)
    for (first, second) in [(pair.adapter, pair.base), (pair.base, pair.adapter)] {
      let error = #expect(throws: SurgeryError.self) { try CompareRequest(first, second).run() }
      #expect(error?.id == "compare.kinds" && error?.file == pair.adapter)
    }
  }

  @Test func checkpointsAreComparedInUnits() throws {
    let pair = try Pair(.bf16, shapes: [[10, 10]], seed: 44)
    var other = pair.tensors
    other[0].bytes[6] ^= 1
    try Files.write(other, to: pair.merged)
    let report = try CompareRequest(pair.merged, pair.base).run()
    #expect(report.modules.first { $0.verdict == .different }?.maximumUnits == 1)
  }
}
