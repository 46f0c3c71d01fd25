import Checkpoints
import LoRASurgery
import Tensors
import Testing

struct InspectAdapterTests {
  private func inspect(
    _ path: String, _ set: (inout InspectRequest) -> Void = { _ in }
  ) throws -> InspectedFile {
    var request = InspectRequest(paths: [path])
    set(&request)
    return try #require(try request.run().files.first)
  }

  @Test func anAdapterSaysWhatItIs() throws {
    let file = try inspect(CombineFixtures.path("a"))
    let adapter = try #require(file.adapter)
    #expect(file.path == CombineFixtures.path("a"))
    #expect(adapter.dialect == .peft)
    #expect(adapter.algorithm == "lora")
    #expect(adapter.modules == 3)
    #expect(adapter.ranks == [3])
    #expect(adapter.scales == [2])
    #expect(adapter.alphas == [6])
    #expect(adapter.dtype == "F32")
    #expect(adapter.parameters == 3 * (12 + 20 + 20 + 10 + 36 + 6))
    #expect(adapter.share == nil)
  }

  @Test func normsAreThoseOfTheChanges() throws {
    let adapter = try #require(try inspect(CombineFixtures.path("a")) { $0.stats = true }.adapter)
    for (module, delta) in try deltas(of: CombineFixtures.path("a")) {
      let norm = delta.elements.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let change = try #require(adapter.changes.first { $0.tensor.text == "\(module).weight" })
      #expect(abs((change.norm ?? -1) / norm - 1) < 1e-12)
    }
  }

  @Test func theShareIsThatOfBaseAndAdapterTogether() throws {
    let folder = try TemporaryFolder()
    let sizes = [("first", [20, 12]), ("second", [10, 20]), ("conv", [6, 4, 3, 3])]
    try TestModels.write(
      sizes.map { name, shape in
        let count = shape.reduce(1, *)
        return TestTensor(
          name: TensorName("\(name).weight"), shape: shape,
          values: [Double](repeating: 1, count: count))
      }, to: folder("base.safetensors"))
    let file = try inspect(CombineFixtures.path("a")) { $0.base = folder("base.safetensors") }
    let adapter = try #require(file.adapter)
    #expect(adapter.baseParameters == 240 + 200 + 216)
    #expect(adapter.share == Double(312) / Double(312 + 656))
    #expect(adapter.matched == 3)
    #expect(file.warnings.isEmpty)
  }

  @Test func aModelStaysAModelAndABrokenAdapterIsStillListed() throws {
    let folder = try TemporaryFolder()
    let values = [Double](repeating: 1, count: 6)
    try TestModels.write(
      [TestTensor(name: "layer.weight", shape: [2, 3], values: values)],
      to: folder("model.safetensors"))
    #expect(try inspect(folder("model.safetensors")).adapter == nil)
    try TestModels.write(
      [
        TestTensor(name: "lora_unet_x.lora_down.weight", shape: [2, 3], values: values),
        TestTensor(name: "lora_unet_x.lora_up.weight", shape: [3, 2], values: values),
        TestTensor(name: "lora_unet_y.lora_down.weight", shape: [2, 3], values: values),
      ], to: folder("broken.safetensors"))
    let broken = try inspect(folder("broken.safetensors"))
    #expect(broken.adapter == nil)
    #expect(broken.tensors.count == 3)
    #expect(broken.warnings.contains { $0.contains("[adapter.") })
  }
}
