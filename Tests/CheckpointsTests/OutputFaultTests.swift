import SystemPackage
import Tensors
import Testing

@testable import Checkpoints

/// Outputs that others get in the way of.
@Suite struct OutputFaultTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func writer(
    _ name: String, _ kind: OutputTransaction.Kind = .file, force: Bool = false,
    inputs: [InputFile] = [], byte: UInt8 = 1
  ) throws -> CheckpointWriter {
    let plan = CheckpointPlan(
      path: folder.path(name), kind: kind,
      files: [
        TensorFilePlan(
          relativePath: "deep/x.safetensors", format: .safetensors,
          tensors: [try info("x", .u8, [1])], metadata: [:])
      ])
    let writer = try CheckpointWriter(
      plan, replacing: force, inputs: inputs, interruption: Interruption())
    let bytes = [byte]
    try writer.write(
      bytes.span.bytes, to: PlannedTensor(file: 0, tensor: 0), at: 0, through: WriteStage())
    return writer
  }

  private func value(_ name: String, _ kind: OutputTransaction.Kind) throws -> [UInt8] {
    let path = kind == .file ? name : "\(name)/deep/x.safetensors"
    return try TensorFile(opening: folder.path(path)).tensors[0].bytes()
  }

  @Test(arguments: [OutputTransaction.Kind.file, .folder])
  func theLastOfForcedWritersWinsWhereNothingWas(_ kind: OutputTransaction.Kind) throws {
    let (first, second) = (
      try writer("out", kind, force: true, byte: 1), try writer("out", kind, force: true, byte: 2)
    )
    try first.commit()
    try second.commit()
    #expect(try value("out", kind) == [2])
  }

  @Test func forceDoesNotReplaceWhatItWouldHaveRefused() throws {
    let writer = try writer("out", force: true)
    try folder.makeFolder("out")
    let error = try failure { try writer.commit() }
    #expect(error.id == "output.kind" && error.file == folder.path("out"))
    let folderWriter = try self.writer("folder", .folder, force: true)
    try folder.write("target", [7])
    try folder.link("folder", to: "target")
    #expect(try failure { try folderWriter.commit() }.id == "output.link")
    #expect(try folder.bytes("target") == [7])
  }

  @Test func anEmptyFolderIsFilledOnce() throws {
    try folder.makeFolder("out")
    let (first, second) = (
      try writer("out", .folder, byte: 1), try writer("out", .folder, byte: 2)
    )
    try first.commit()
    let error = try failure { try second.commit() }
    #expect(error.id == "output.busy" && error.kind == .busy)
    #expect(try value("out", .folder) == [1])
  }

  @Test func whatDoesNotReadBackIsNotPublished() throws {
    for kind in [OutputTransaction.Kind.file, .folder] {
      let writer = try writer("out", kind)
      let part = try #require(try folder.names().first { $0.hasSuffix(".part") })
      let temporary = kind == .file ? part : "\(part)/deep/x.safetensors"
      // The first byte of the header's length.
      var bytes = try folder.bytes(temporary)
      bytes[7] = 1
      try folder.write(temporary, bytes)
      let error = try failure { try writer.commit() }
      #expect(error.id == "output.read-back" && error.kind == .io)
      #expect(error.file?.hasPrefix(folder.path("out")) == true)
      #expect(error.expected == "1 tensor" && error.found != nil)
    }
    #expect(try folder.names() == [])
  }

  @Test func onlyThePublishingIsLeftAfterThePreparation() throws {
    try folder.write("old", [7])
    let writer = try writer("old", force: true)
    try writer.finish()
    #expect(try folder.bytes("old") == [7])
    try writer.publish()
    #expect(try value("old", .file) == [1])
  }

  @Test func badDataOfAFileThatChangedIsTheChange() throws {
    try folder.write(
      "in", safetensors(#"{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, data: [1]))
    let tensor = try TensorFile(opening: folder.path("in")).tensors[0]
    let bad = SurgeryError(.data, "tensor.bad", "bad")
    #expect(tensor.explained(bad).id == "tensor.bad")
    #expect(tensor.explained(bad).tensor == "x")
    try folder.write("in", [1, 2, 3])
    let explained = tensor.explained(bad)
    #expect(explained.id == "io.changed" && explained.kind == .io && explained.tensor == "x")
    #expect(tensor.explained(SurgeryError(.usage, "usage.other", "other")).id == "usage.other")
  }
}
