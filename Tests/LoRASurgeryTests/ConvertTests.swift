import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

struct ConvertTests {
  @Test func shardsJoinToTheSameBytes() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(TestModels.pair(rank: 1).base, to: folder("model.safetensors"))
    var split = ConvertRequest(input: folder("model.safetensors"), output: folder("sharded"))
    split.form.maximumShardSize = 3000
    _ = try split.run()
    let names = try FileManager.default.contentsOfDirectory(atPath: folder("sharded")).sorted()
    #expect(
      names == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
      ])
    _ = try ConvertRequest(input: folder("sharded"), output: folder("joined.safetensors")).run()
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: folder("joined.safetensors")))
        == Data(contentsOf: URL(fileURLWithPath: folder("model.safetensors"))))
  }

  @Test func aFormatThatIsOnlyReadIsRefusedByThePlan() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(TestModels.pair(rank: 1).base, to: folder("model.safetensors"))
    var request = ConvertRequest(input: folder("model.safetensors"), output: folder("model.pt"))
    request.dryRun = true
    #expect(surgeryError { _ = try request.run() }?.id == "output.format")
  }

  /// The scale of PEFT's keys stands in the configuration beside them.
  @Test func aConfigurationThatIsLeftBehindIsSaid() throws {
    let folder = try TemporaryFolder()
    try TestModels.writePairAndAdapter(in: folder)
    let copied = try ConvertRequest(
      input: folder("adapter"), output: folder("adapter.safetensors")
    ).run()
    #expect(copied.warnings.contains { $0.hasPrefix("adapter_config.json, which says how") })
    let moved = try ConvertRequest(input: folder("adapter"), output: folder("moved")).run()
    #expect(moved.warnings.isEmpty)
  }

  @Test func namesAndMetadataAreEdited() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(TestModels.pair(rank: 1).base, to: folder("model.safetensors"))
    var request = ConvertRequest(
      input: folder("model.safetensors"), output: folder("renamed.safetensors"))
    request.renamings = [try Renaming(#"s/^layer\.(\d+)\./blocks.$1./"#)]
    request.metadata = ["author": "me"]
    request.selection = Selection(exclude: ["head"])
    _ = try request.run()
    let written = try Checkpoint(opening: folder("renamed.safetensors"))
    #expect(
      Set(written.tensors.map(\.name)) == ["blocks.0.norm.weight", "blocks.0.proj.weight"])
    #expect(written.metadata == ["author": "me"])
  }

  @Test func aNameForTwoIsRefused() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(TestModels.pair(rank: 1).base, to: folder("model.safetensors"))
    var request = ConvertRequest(
      input: folder("model.safetensors"), output: folder("renamed.safetensors"))
    request.renamings = [try Renaming("s/.*weight/w/")]
    #expect(surgeryError { _ = try request.run() }?.id == "convert.name")
  }

  /// Two elements share a byte, so their places cannot be exchanged.
  @Test func elementsSmallerThanAByteAreNotTransposed() throws {
    let folder = try TemporaryFolder()
    try Files.write(
      [Stored("w", .f4, [4, 2], bytes: [1, 2, 3, 4])], to: folder("codes.safetensors"))
    var request = ConvertRequest(
      input: folder("codes.safetensors"), output: folder("out.safetensors"))
    request.transposed = ["w"]
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == "convert.transpose" && error?.kind == .unsupported)
    #expect(error?.file == folder("codes.safetensors") && error?.tensor == "w")
    #expect(error?.found == "F4" && error?.hint?.contains("--exclude") == true)
    #expect(folder.contents == ["codes.safetensors"])
  }

  @Test func overflowIsAnErrorUnlessAccepted() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(
      [TestTensor(name: "w", shape: [2], values: [1, 1e6])], to: folder("wide.safetensors"))
    var request = ConvertRequest(
      input: folder("wide.safetensors"), output: folder("half.safetensors"))
    request.dtype = .f16
    #expect(surgeryError { _ = try request.run() }?.id == "dtype.overflow")
    #expect(folder.contents == ["wide.safetensors"])
    request.allowOverflow = true
    #expect(try request.run().modules[0].overflowed == 1)
  }
}
