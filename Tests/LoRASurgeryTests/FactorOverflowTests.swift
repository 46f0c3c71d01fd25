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

  @Test func inFactoringAnew() {
    var request = ConvertRequest(input: folder("whole.safetensors"), output: folder("out"))
    request.asLowRank = true
    request.dialect = .kohya
    request.ranks.rank = 1
    request.dtype = .f16
    expectOverflow { try request.run() }
  }
}
