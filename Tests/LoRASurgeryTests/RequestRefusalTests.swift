import Adapters
import LoRASurgery
import Tensors
import Testing

/// Requests that contradict themselves, as a recipe or a caller of the library may make them.
struct RequestRefusalTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try TestModels.write(
      [
        TestTensor(name: "lora_unet_a.lora_down.weight", shape: [1, 2], values: [1, 2]),
        TestTensor(name: "lora_unet_a.lora_up.weight", shape: [3, 1], values: [1, 2, 3]),
      ], to: folder("pair.safetensors"))
  }

  private func expect(_ id: String, _ run: () throws -> OperationReport) {
    let error = surgeryError { _ = try run() }
    #expect(error?.id == id && error?.kind == .usage, "\(String(describing: error))")
    #expect(folder.contents == ["pair.safetensors"])
  }

  @Test func factorsOfWholeNumbers() {
    var request = ResizeRequest(
      adapter: folder("pair.safetensors"), output: folder("out"), ranks: RankOptions(rank: 1))
    request.dtype = .i32
    expect("dtype.factors") { try request.run() }
  }

  @Test func partsOfTheConversionOfOneAdapter() throws {
    var request = ConvertRequest(input: folder("pair.safetensors"), output: folder("out"))
    request.dialect = .kohya
    request.part = try Part(1, of: 2)
    expect("part.adapter") { try request.run() }
  }

  @Test func anExtensionThatIsNotTheFormat() {
    var request = ConvertRequest(
      input: folder("pair.safetensors"), output: folder("out.npz"))
    request.form.format = .safetensors
    expect("output.format") { try request.run() }
  }

  @Test func nothingToGather() {
    let request = GatherRequest(pieces: [], output: folder("out"))
    expect("part.missing") { try request.run() }
  }
}
