import Adapters
import Checkpoints
import LinearAlgebra
import Tensors
import Testing

/// Stated errors, recomputed in double precision from dense deltas.
struct CompactErrorTests {
  @Test(
    "Every module is within its stated error", arguments: [0.3, 0.15, 0.05, 0.01, 0.001, 0.0002])
  func modules(_ error: Double) throws {
    var generator = SeededGenerator(seed: 11)
    let workshop = try CompactWorkshop()
    var modules: [(String, any Update, Double)] = []
    for (index, shape) in [(40, 30, 4), (7, 200, 3), (3, 5, 8), (96, 64, 64), (1, 9, 1)]
      .enumerated()
    {
      let (rows, columns, rank) = shape
      let decay = Double.random(in: 0.3...1, using: &generator)
      let factors = (0..<rank).map { pow(decay, Double($0)) }
      let down = try workshop.gaussian(
        "d\(index)", [rank, columns], .f32, rowFactors: factors, &generator)
      let up = try workshop.gaussian("u\(index)", [rows, rank], .f32, &generator)
      modules.append(
        ("m\(index)", try LowRank(up: Factor(up), down: Factor(down)), 10 * decay))
    }
    let bias = try workshop.gaussian("bias", [50], .f32, &generator)
    modules.append(("b", try FullDifference(Factor(bias)), 1))
    let full = try workshop.gaussian("full", [20, 80], .f32, &generator)
    modules.append(("f", try FullDifference(Factor(full)), 2))
    let adapter = workshop.adapter(modules)
    let back = try Adapter(opening: try workshop.write(adapter) { $0.maximumError = error })
    #expect(back.provenance.compact?.maximumError == error)
    for (found, wanted) in zip(back.modules, adapter.modules) {
      let squares = CompactWorkshop.squares(
        try CompactWorkshop.delta(found), try CompactWorkshop.delta(wanted))
      #expect(squares.error <= error * error * squares.norm * (1 + 1e-9), "\(wanted.name)")
      // Not far better either: that would be bytes for nothing.
      if wanted.update.columns > 100, error < 0.1 {
        #expect(squares.error >= 0.9 * error * error * squares.norm, "\(wanted.name)")
      }
    }
  }

  private func pow(_ base: Double, _ exponent: Double) -> Double {
    (0..<Int(exponent)).reduce(1) { power, _ in power * base }
  }

  @Test("All modules together are within their stated error")
  func total() throws {
    var generator = SeededGenerator(seed: 12)
    let workshop = try CompactWorkshop()
    var modules: [(String, any Update, Double)] = []
    for index in 0..<6 {
      let down = try workshop.gaussian("d\(index)", [6, 50], .f32, &generator)
      let up = try workshop.gaussian("u\(index)", [70, 6], .f32, &generator)
      modules.append(
        ("m\(index)", try LowRank(up: Factor(up), down: Factor(down)), 1 / Double(1 << index)))
    }
    let adapter = workshop.adapter(modules)
    let back = try Adapter(opening: try workshop.write(adapter) { $0.maximumTotalError = 0.04 })
    var (error, norm) = (0.0, 0.0)
    for (found, wanted) in zip(back.modules, adapter.modules) {
      let squares = CompactWorkshop.squares(
        try CompactWorkshop.delta(found), try CompactWorkshop.delta(wanted))
      error += squares.error
      norm += squares.norm
    }
    #expect(error <= 0.04 * 0.04 * norm)
    #expect(error >= 0.8 * 0.04 * 0.04 * norm)
    // The small ones pay first.
    let sizes = back.provenance.compact?.bytesByModule ?? [:]
    #expect(sizes["m5", default: 0] < sizes["m0", default: 0] / 2)
  }

  @Test("Components that are not worth their bits are trimmed")
  func trimmed() throws {
    var generator = SeededGenerator(seed: 13)
    let workshop = try CompactWorkshop()
    let down = try workshop.gaussian(
      "d", [8, 64], .bf16, rowFactors: [1, 1, 1, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3], &generator)
    let up = try workshop.gaussian("u", [64, 8], .bf16, &generator)
    let zero = try workshop.tensor("z", [64, 8], .bf16, [Double](repeating: 0, count: 512))
    let adapter = workshop.adapter([
      ("m", try LowRank(up: Factor(up), down: Factor(down)), 2),
      ("z", try LowRank(up: Factor(zero), down: Factor(down)), 2),
    ])
    let back = try Adapter(opening: try workshop.write(adapter) { $0.quality = .medium })
    #expect(back.modules.map(\.update.rank) == [3, 1])
    #expect(back.modules.map(\.scale) == [2, 2])
    #expect(try CompactWorkshop.delta(back.modules[1]).elements.allSatisfy { $0 == 0 })
  }

  @Test("DoRA's magnitudes stay exact, and its pair is within the error")
  func dora() throws {
    let workshop = try CompactWorkshop()
    let adapter = try Adapter(opening: Fixtures.path("peft/dora-linear/adapter"))
    let back = try Adapter(opening: try workshop.write(adapter) { $0.maximumError = 0.02 })
    for (found, wanted) in zip(back.modules, adapter.modules) {
      guard let old = wanted.update as? Decomposed, let new = found.update as? Decomposed else {
        continue
      }
      #expect(try new.magnitude.bytes() == old.magnitude.bytes())
      let squares = CompactWorkshop.squares(
        try CompactWorkshop.delta(ModuleUpdate(changing: "a.b", by: new.inner)),
        try CompactWorkshop.delta(ModuleUpdate(changing: "a.b", by: old.inner)))
      #expect(squares.error <= 0.0004 * squares.norm * (1 + 1e-9))
    }
  }

  @Test("The same adapter gives the same bytes, and a smaller error no smaller file")
  func sizes() throws {
    var generator = SeededGenerator(seed: 14)
    let workshop = try CompactWorkshop()
    let down = try workshop.gaussian("d", [16, 500], .bf16, &generator)
    let up = try workshop.gaussian("u", [400, 16], .bf16, &generator)
    let adapter = workshop.adapter([("m", try LowRank(up: Factor(up), down: Factor(down)), 1)])
    var last = UInt64.max
    for error in [0.002, 0.01, 0.05, 0.2] {
      let first = try InputFile(
        try workshop.write(adapter, as: "1.lra") { $0.maximumError = error })
      let second = try InputFile(
        try workshop.write(adapter, as: "2.lra") { $0.maximumError = error })
      #expect(
        try first.bytes(at: 0, count: Int(first.size))
          == second.bytes(at: 0, count: Int(second.size)))
      #expect(first.size < last)
      last = first.size
    }
    // 16,000 numbers of 16 bits: a third at most at 5 %, as promised.
    let medium = try InputFile(try workshop.write(adapter) { $0.maximumError = 0.05 })
    #expect(medium.size < 32_000 / 3)
  }

  /// Steps are stored in bfloat16, so values of the ends of the range have none; they are not to become zeros that claim to
  /// be within the error.
  @Test(
    "Values that no step suits are refused by name",
    arguments: [(DType.f32, 1e-44), (.f64, 1e-60), (.f64, 1e100), (.f64, 1e200)])
  func unsuitable(_ dtype: DType, _ value: Double) throws {
    let workshop = try CompactWorkshop()
    let values = (1...128).map { value * Double($0 % 7 + 1) }
    let down = try workshop.tensor("down", [2, 64], dtype, values)
    let up = try workshop.tensor("up", [64, 2], dtype, values)
    let full = try workshop.tensor("full", [2, 64], dtype, values)
    var cases: [(String, any Update)] = []
    if value < 1e150 { cases.append(("up", try LowRank(up: Factor(up), down: Factor(down)))) }
    if value != 1e100 { cases.append(("full", try FullDifference(Factor(full)))) }
    for (name, update) in cases {
      let adapter = workshop.adapter([("m", update, 1)])
      let error = #expect(throws: SurgeryError.self) {
        try workshop.write(adapter) { $0.maximumError = 0.01 }
      }
      #expect(error?.id == "lra.error-not-met" && error?.kind == .unsupported, "\(name)")
      #expect(error?.file != nil && error?.tensor == name)
      #expect(error?.hint?.contains("none for lossless") == true)
      #expect(throws: SurgeryError.self) { try InputFile(workshop.folder.path("a.lra")) }
      // Lossless it is no matter.
      #expect(try Adapter(opening: try workshop.write(adapter, as: "b.lra")).modules.count == 1)
    }
  }

  @Test("Impossible errors are refused", arguments: [0, -1, 1, 2, Double.nan, .infinity])
  func range(_ error: Double) throws {
    let workshop = try CompactWorkshop()
    let adapter = workshop.adapter([])
    #expect {
      try workshop.write(adapter) { $0.maximumError = error }
    } throws: { ($0 as? SurgeryError)?.id == "lra.error-range" }
  }
}
