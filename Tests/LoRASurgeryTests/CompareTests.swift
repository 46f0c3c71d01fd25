import LoRASurgery
import Tensors
import Testing

/// Comparisons of checkpoints, value by value.
struct CompareTests {
  /// What is no number is infinitely far from a number, whichever side has it, and equal to itself.
  @Test(arguments: [Double.infinity, -.infinity, .nan])
  func valuesThatAreNoNumbers(_ value: Double) throws {
    let folder = try TemporaryFolder()
    for (name, last) in [("sound", 3.0), ("broken", value), ("same", value)] {
      try TestModels.write(
        [TestTensor(name: "w", shape: [2, 2], values: [1, -2, 0.5, last])],
        to: folder(name + ".safetensors"))
    }
    func report(_ first: String, _ second: String) throws -> CompareReport {
      try CompareRequest(folder(first + ".safetensors"), folder(second + ".safetensors")).run()
    }
    for (first, second) in [("sound", "broken"), ("broken", "sound")] {
      let different = try report(first, second)
      #expect(!different.equal && different.modules[0].verdict == .different)
      #expect(different.relativeError == .infinity)
      #expect(different.modules[0].relativeError == .infinity)
      #expect(different.modules[0].maximumDifference == .infinity)
      #expect(different.modules[0].cosine == nil)
    }
    let equal = try report("broken", "same")
    #expect(equal.equal && equal.relativeError == 0 && equal.modules[0].verdict == .identical)
  }
}
