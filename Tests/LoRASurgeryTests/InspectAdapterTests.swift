import Adapters
import Checkpoints
import Foundation
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

  /// Folders of litgpt and of compact files, whose names no model has.
  @Test(arguments: [("lit_model.pth.lora", Dialect.litgpt), ("adapter_model.lra", .compact)])
  func foldersOfAdaptersAreListedAsOthers(_ name: String, _ dialect: Dialect) throws {
    let folder = try TemporaryFolder()
    let (down, up) =
      dialect == .litgpt
      ? ("transformer.h.0.attn.proj.lora_A", "transformer.h.0.attn.proj.lora_B")
      : ("lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight")
    try TestModels.write(
      [
        TestTensor(name: TensorName(down), shape: [2, 3], values: [1, 2, 3, 4, 5, 6]),
        TestTensor(name: TensorName(up), shape: [3, 2], values: [1, 2, 3, 4, 5, 6]),
      ], to: folder("factors.safetensors"))
    let path = folder("adapter/\(name)")
    try FileManager.default.createDirectory(
      atPath: folder("adapter"), withIntermediateDirectories: false)
    if dialect == .compact {
      var request = ConvertRequest(input: folder("factors.safetensors"), output: path)
      request.dialect = .compact
      _ = try request.run()
    } else {
      try FileManager.default.moveItem(atPath: folder("factors.safetensors"), toPath: path)
    }
    let found = try inspect(folder("adapter"))
    #expect(found.adapter?.dialect == dialect && found.adapter?.modules == 1)
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
