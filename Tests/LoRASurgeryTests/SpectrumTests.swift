import Foundation
import LinearAlgebra
import Testing

@testable import LoRASurgery
@testable import Tensors

@Suite struct SpectrumTests {
  /// A base of zeros and a tuned matrix with these singular values, between vectors of a Hadamard basis.
  ///
  /// Signs of a Hadamard matrix over the root of its size are orthonormal, so the values are planted exactly.
  private func planted(
    _ values: [Double], rows: Int, columns: Int, name: TensorName = "model.layers.0.q_proj.weight"
  ) -> (base: TestTensor, tuned: TestTensor) {
    func sign(_ row: Int, _ column: Int) -> Double {
      (row & column).nonzeroBitCount % 2 == 0 ? 1 : -1
    }
    let scale = 1 / Double(rows * columns).squareRoot()
    var elements: [Double] = []
    for row in 0..<rows {
      for column in 0..<columns {
        elements.append(
          values.indices.reduce(0) { $0 + values[$1] * sign(row, $1) * sign($1, column) } * scale)
      }
    }
    let zeros = [Double](repeating: 0, count: rows * columns)
    return (
      TestTensor(name: name, shape: [rows, columns], values: zeros),
      TestTensor(name: name, shape: [rows, columns], values: elements)
    )
  }

  private func report(
    _ pairs: [(base: TestTensor, tuned: TestTensor)],
    _ change: (inout SpectrumRequest) -> Void = { _ in }
  ) throws -> SpectrumReport {
    let folder = try TemporaryFolder()
    try TestModels.write(pairs.map(\.base), to: folder("base.safetensors"))
    try TestModels.write(pairs.map(\.tuned), to: folder("tuned.safetensors"))
    var request = SpectrumRequest(
      base: folder("base.safetensors"), tuned: folder("tuned.safetensors"))
    change(&request)
    return try request.run()
  }

  @Test(arguments: [Precision.float32, .float64], [(16, 32), (32, 16), (16, 16)])
  func plantedValuesAreFound(precision: Precision, size: (Int, Int)) throws {
    let planted = planted([8, 4, 2, 1], rows: size.0, columns: size.1)
    let report = try report([planted]) { $0.precision = precision }
    let found = try #require(report.modules.first)
    let values = try #require(found.values)
    #expect(found.action == .decomposed)
    #expect(found.complete == true)
    #expect(values.count == 16)
    #expect(zip(values, [8.0, 4, 2, 1]).allSatisfy { abs($0 - $1) < 1e-5 })
    #expect(values.dropFirst(4).allSatisfy { $0 < 1e-5 })
    #expect(abs((found.deltaNorm ?? 0) - 85.0.squareRoot()) < 1e-5)
    #expect(abs((found.stableRank ?? 0) - 85.0 / 64) < 1e-5)
  }

  @Test func aSearchFindsTheLeadingValuesOfALargeMatrix() throws {
    let planted = planted([16, 8, 4, 2], rows: 1024, columns: 1024)
    let report = try report([planted]) { $0.values = 3 }
    let found = try #require(report.modules.first)
    #expect(found.complete == false)
    #expect(found.effectiveRank == nil)
    let values = try #require(found.values)
    #expect(values.count == 3)
    #expect(zip(values, [16.0, 8, 4]).allSatisfy { abs($0 - $1) < 1e-3 })
    let energies = try #require(found.energy)
    #expect(abs(energies[2] - 336.0 / 340) < 1e-5)
    #expect(report.totals.policies.last?.undecided == 1)
  }

  @Test func energiesRanksAndCostsAreThoseOfTheValues() throws {
    let report = try report([
      planted([8, 4, 2, 1], rows: 16, columns: 32),
      planted([3], rows: 8, columns: 8, name: "model.layers.1.q_proj.weight"),
    ])
    let found = try #require(report.modules.first)
    let energies = try #require(found.energy).prefix(4)
    #expect(zip(energies, [64.0, 80, 84, 85]).allSatisfy { abs($0 - $1 / 85) < 1e-6 })
    // 16 + 32 elements of four bytes.
    #expect(found.bytesPerRank == 192)
    let policies = try #require(found.policies)
    let ranks = Dictionary(uniqueKeysWithValues: policies.map { ($0.option, $0.rank) })
    #expect(ranks["--energy 0.5"] == 1)
    #expect(ranks["--energy 0.9"] == 2)
    #expect(ranks["--energy 0.95"] == 3)
    #expect(ranks["--energy 0.99"] == 4)
    // What is left after two is sqrt(5 / 85) = 0.243; after three sqrt(1 / 85) = 0.108.
    #expect(ranks["--max-error 0.3"] == 2)
    #expect(ranks["--max-error 0.1"] == 4)
    #expect(policies.first { $0.option == "--energy 0.95" }?.bytes == 3 * 192)

    let rank = try #require(report.totals.ranks.first { $0.rank == 2 })
    #expect(rank.bytes == 2 * 192 + 2 * 64)
    #expect(abs(rank.capturedEnergy - 89.0 / 94) < 1e-6)
    // The small matrix has no more than eight ranks.
    #expect(report.totals.ranks.last?.rank == 16)
    #expect(report.totals.ranks.last?.bytes == 16 * 192 + 8 * 64)
    let half = try #require(report.totals.policies.first)
    #expect(half.bytes == 192 + 64)
    #expect(abs((half.capturedEnergy ?? 0) - 73.0 / 94) < 1e-6)
  }

  @Test func everyTensorIsAccountedFor() throws {
    let (base, tuned) = TestModels.pair(rank: 2)
    let report = try report(Array(zip(base, tuned))) { $0.selection.exclude = ["nothing"] }
    // In the order of the file: head, norm, projection.
    #expect(report.modules.map(\.action) == [.unchanged, .full, .decomposed])
    #expect(report.totals.changed == 2)
    #expect(report.totals.fullBytes == 160)
    let selected = try self.report(Array(zip(base, tuned))) { $0.selection.include = ["proj"] }
    #expect(selected.modules.map(\.action) == [.skipped, .skipped, .decomposed])
  }

  @Test func identicalModelsAndNoValuesAreRefused() throws {
    let (base, tuned) = TestModels.pair(rank: 2)
    #expect(
      surgeryError { _ = try report(Array(zip(base, base))) }?.id == "spectrum.identical")
    #expect(
      surgeryError { _ = try report(Array(zip(base, tuned))) { $0.values = 0 } }?.id
        == "rank.range")
  }

  @Test(arguments: [
    ("model.layers.3.mlp.experts.5.w1.weight", "model.layers.3", "mlp.experts.*.w1"),
    ("encoder.layer.0.output.dense.weight", "encoder.layer.0", "output.dense"),
    ("lm_head.weight", nil, "lm_head"), ("proj.0.weight", nil, "proj.0"), ("weight", nil, "weight"),
  ])
  func placesAreReadOffNames(name: String, layer: String?, projection: String) {
    let place = TensorPlace(TensorName(name))
    #expect(place.layer == layer)
    #expect(place.projection == projection)
  }
}
