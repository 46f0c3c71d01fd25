import Adapters
import Foundation
import LoRASurgery
import Tensors
import Testing

/// Modules that are quantised on many threads come into the file in their order.
struct AdapterWritingTests {
  private static let modules = 12

  /// A compact plan of small pairs.
  private static func plan(in folder: TemporaryFolder, to name: String) throws -> AdapterPlan {
    var generator = SeededGenerator(3)
    let source = folder("source-\(name).safetensors")
    var tensors: [TestTensor] = []
    for index in 0..<modules {
      // Modules of very different cost, so that threads overtake each other.
      let width = index % 3 == 0 ? 400 : 20
      tensors.append(
        TestTensor(
          name: TensorName("m\(index).lora_down.weight"), shape: [4, width],
          values: generator.values(4 * width)))
      tensors.append(
        TestTensor(
          name: TensorName("m\(index).lora_up.weight"), shape: [16, 4],
          values: generator.values(64)))
      tensors.append(
        TestTensor(name: TensorName("m\(index).alpha"), shape: [], values: [4]))
    }
    try TestModels.write(tensors, to: source)
    var options = AdapterWritingOptions(dialect: .compact, format: .compact)
    options.maximumError = 0.01
    return try Adapter(opening: source).plan(to: folder(name), options: options)
  }

  @Test func theNumberOfThreadsDoesNotShow() throws {
    let folder = try TemporaryFolder()
    var files: [Data] = []
    for jobs in [1, 2, 8] {
      let name = "\(jobs).lra"
      try Self.plan(in: folder, to: name)
        .write(replacing: false, inputs: [], Execution(jobs: jobs))
      files.append(try Data(contentsOf: URL(fileURLWithPath: folder(name))))
    }
    #expect(files[1] == files[0])
    #expect(files[2] == files[0])
    #expect(try Adapter(opening: folder("8.lra")).modules.count == Self.modules)
  }

  @Test(arguments: [0, 5, 11]) func theFirstFailureIsThrownAndNothingIsLeft(at failing: Int) throws
  {
    let folder = try TemporaryFolder()
    var plan = try Self.plan(in: folder, to: "out.lra")
    for index in failing..<Self.modules {
      plan.contents[0][index] = .quantised { () throws(SurgeryError) in
        throw SurgeryError(.data, "test.failure-\(index)", "made to fail")
      }
    }
    let error = #expect(throws: SurgeryError.self) {
      try plan.write(replacing: false, inputs: [], Execution(jobs: 4))
    }
    #expect(error?.id == "test.failure-\(failing)")
    #expect(folder.contents == ["source-out.lra.safetensors"])
  }
}
