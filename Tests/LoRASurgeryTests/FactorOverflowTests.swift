import LoRASurgery
import Tensors
import Testing

/// Factors that their storage dtype cannot hold are an error that leaves nothing, whoever makes the factors.
struct FactorOverflowTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try TestModels.write(
      [
        TestTensor(name: "lora_unet_a.lora_down.weight", shape: [1, 2], values: [1e6, 2e6]),
        TestTensor(name: "lora_unet_a.lora_up.weight", shape: [3, 1], values: [1e6, 2e6, 3e6]),
      ], to: folder("pair.safetensors"))
    try TestModels.write(
      [
        TestTensor(
          name: "lora_unet_a.diff", shape: [3, 2], values: [1e12, 2e12, 2e12, 4e12, 3e12, 6e12])
      ], to: folder("whole.safetensors"))
  }

  private func expectOverflow(_ run: () throws -> OperationReport) {
    #expect(surgeryError { _ = try run() }?.id == "dtype.overflow")
    #expect(folder.contents == ["pair.safetensors", "whole.safetensors"])
  }

  @Test func inResizing() {
    var request = ResizeRequest(
      adapter: folder("pair.safetensors"), output: folder("out"), ranks: RankOptions())
    request.ranks.rank = 1
    request.dtype = .f16
    expectOverflow { try request.run() }
  }

  @Test(arguments: [CombineRequest.Method.concat, .svd, .tiesSVD])
  func inCombining(_ method: CombineRequest.Method) {
    var request = CombineRequest(
      adapters: [WeightedAdapter(folder("pair.safetensors"), weight: 1)], output: folder("out"),
      method: method)
    request.density = method == .tiesSVD ? 1 : nil
    request.dtype = .f16
    expectOverflow { try request.run() }
  }

  /// Where the loss is accepted, the report does not call it a capture.
  @Test func whatIsAcceptedCapturesNothing() throws {
    var resize = ResizeRequest(
      adapter: folder("pair.safetensors"), output: folder("resized"), ranks: RankOptions())
    resize.ranks.rank = 1
    resize.dtype = .f16
    resize.allowOverflow = true
    var combine = CombineRequest(
      adapters: [WeightedAdapter(folder("pair.safetensors"), weight: 1)],
      output: folder("combined"), method: .concat)
    combine.dtype = .f16
    combine.allowOverflow = true
    for report in [try resize.run(), try combine.run()] {
      let norm = try #require(report.totals.deltaNorm)
      #expect(norm > 1e12)
      #expect(report.totals.residualNorm == norm && report.totals.capturedEnergy == 0)
    }
  }

  @Test func inFactoringAnew() {
    var request = ConvertRequest(input: folder("whole.safetensors"), output: folder("out"))
    request.asLowRank = true
    request.dialect = .kohya
    request.ranks.rank = 1
    request.dtype = .f16
    expectOverflow { try request.run() }
  }
}
