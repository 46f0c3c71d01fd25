import Glibc
import SystemPackage
import Tensors
import Testing

@testable import Checkpoints

/// An output is whole or absent.
@Suite struct OutputTests {
  private func plan(
    _ path: String, _ kind: OutputTransaction.Kind = .file, files: [String] = ["x.safetensors"]
  ) throws -> CheckpointPlan {
    CheckpointPlan(
      path: path, kind: kind,
      files: try files.map {
        TensorFilePlan(
          relativePath: $0, format: .safetensors, tensors: [try info($0, .u8, [4])], metadata: [:])
      })
  }

  private func start(
    _ plan: CheckpointPlan, replacing: Bool = false, inputs: [InputFile] = [],
    interruption: Interruption = Interruption()
  ) throws -> CheckpointWriter {
    let writer = try CheckpointWriter(
      plan, replacing: replacing, inputs: inputs, interruption: interruption)
    for index in plan.files.indices {
      let bytes: [UInt8] = [1, 2, 3, 4]
      try writer.write(
        bytes.span.bytes, to: PlannedTensor(file: index, tensor: 0), at: 0, through: WriteStage())
    }
    return writer
  }

  private func mode(_ path: String) throws -> UInt32 {
    try FileSystem.status(of: FilePath(path), followingLinks: false).mode & 0o7777
  }

  @Test func appearsOnCommitOnly() throws {
    let folder = try TemporaryFolder()
    let writer = try start(try plan(folder.path("out.safetensors")))
    let before = try folder.names()
    #expect(
      before.count == 1 && before[0].hasPrefix(".out.safetensors.") && before[0].hasSuffix(".part"))
    try writer.commit()
    #expect(try folder.names() == ["out.safetensors"])
    #expect(try mode(folder.path("out.safetensors")) == FileSystem.defaultFileMode)
    let file = try TensorFile(opening: folder.path("out.safetensors"))
    #expect(try file.tensors[0].bytes() == [1, 2, 3, 4])
  }

  @Test func isGoneWithoutCommit() throws {
    let folder = try TemporaryFolder()
    try folder.write("old", [7])
    for kind in [OutputTransaction.Kind.file, .folder] {
      do { _ = try start(try plan(folder.path("new"), kind, files: ["a/x.safetensors"])) }
      #expect(try folder.names() == ["old"])
    }
    do { _ = try start(try plan(folder.path("old")), replacing: true) }
    #expect(try folder.bytes("old") == [7])
  }

  @Test func anExistingOutputNeedsForce() throws {
    let folder = try TemporaryFolder()
    try folder.write("out", [7])
    #expect(unsafe chmod(folder.path("out"), 0o640) == 0)
    let error = try failure { _ = try start(try plan(folder.path("out"))) }
    #expect(error.id == "output.exists" && error.kind == .outputRefused)
    #expect(try folder.bytes("out") == [7])
    try start(try plan(folder.path("out")), replacing: true).commit()
    #expect(try folder.bytes("out").count > 7 && folder.names() == ["out"])
    #expect(try mode(folder.path("out")) == 0o640)
  }

  @Test func linksAndOtherThingsAreRefused() throws {
    let folder = try TemporaryFolder()
    try folder.write("target", [7])
    try folder.link("link", to: "target")
    try folder.link("dangling", to: "none")
    try folder.makeFolder("folder")
    #expect(unsafe mkfifo(folder.path("fifo"), 0o600) == 0)
    for (name, id) in [
      ("link", "output.link"), ("dangling", "output.link"), ("folder", "output.kind"),
      ("fifo", "output.kind"),
    ] {
      let error = try failure { _ = try start(try plan(folder.path(name)), replacing: true) }
      #expect(error.id == id && error.kind == .outputRefused, "\(name)")
    }
    #expect(
      try failure { _ = try start(try plan(folder.path("target"), .folder), replacing: true) }.id
        == "output.kind")
    #expect(try folder.names() == ["dangling", "fifo", "folder", "link", "target"])
    #expect(try folder.bytes("target") == [7])
  }

  @Test func anInputIsNeverTheOutput() throws {
    let folder = try TemporaryFolder()
    try folder.write("in", safetensors("{}"))
    #expect(unsafe Glibc.link(folder.path("in"), folder.path("hard")) == 0)
    try folder.link("soft", to: "in")
    for (input, output) in [("in", "in"), ("in", "hard"), ("hard", "in"), ("soft", "in")] {
      let error = try failure {
        _ = try start(
          try plan(folder.path(output)), replacing: true, inputs: [InputFile(folder.path(input))])
      }
      #expect(error.id == "output.is-input" && error.kind == .data, "\(input) -> \(output)")
    }
    #expect(try folder.names() == ["hard", "in", "soft"])
  }

  @Test func anOutputFolderNeverHoldsAnInput() throws {
    let folder = try TemporaryFolder()
    try folder.makeFolder("model/unet")
    try folder.makeFolder("view")
    try folder.write("model/unet/x", safetensors("{}"))
    try folder.link("view/x", to: "../model/unet/x")
    for input in ["model/unet/x", "view/x"] {
      let error = try failure {
        _ = try start(
          try plan(folder.path("model"), .folder), replacing: true,
          inputs: [InputFile(folder.path(input))])
      }
      #expect(error.id == "output.is-input", "\(input)")
    }
    try start(
      try plan(folder.path("other"), .folder), inputs: [InputFile(folder.path("view/x"))]
    ).commit()
    #expect(try folder.names() == ["model", "other", "view"])
  }

  @Test func foldersAreExchanged() throws {
    let folder = try TemporaryFolder()
    try start(try plan(folder.path("out"), .folder, files: ["a.safetensors", "b/c.safetensors"]))
      .commit()
    #expect(try FileSystem.contents(of: FilePath(folder.path("out"))) == ["a.safetensors", "b"])
    #expect(try folder.bytes("out/b/c.safetensors").suffix(4) == [1, 2, 3, 4])
    #expect(
      try failure { _ = try start(try plan(folder.path("out"), .folder)) }.id == "output.exists")
    try start(try plan(folder.path("out"), .folder), replacing: true).commit()
    #expect(try FileSystem.contents(of: FilePath(folder.path("out"))) == ["x.safetensors"])
    #expect(try folder.names() == ["out"])
    try folder.makeFolder("empty")
    try start(try plan(folder.path("empty"), .folder)).commit()
    #expect(try folder.names() == ["empty", "out"])
  }

  @Test func theFirstOfTwoWritersWins() throws {
    let folder = try TemporaryFolder()
    for kind in [OutputTransaction.Kind.file, .folder] {
      let name = kind == .file ? "file" : "folder"
      let first = try start(try plan(folder.path(name), kind))
      let second = try start(try plan(folder.path(name), kind))
      try second.commit()
      let error = try failure { try first.commit() }
      #expect(error.id == "output.busy" && error.kind == .busy)
    }
    #expect(try folder.names() == ["file", "folder"])
    let forced = try start(try plan(folder.path("file")), replacing: true)
    try start(try plan(folder.path("file")), replacing: true).commit()
    try forced.commit()
    #expect(try folder.names() == ["file", "folder"])
  }

  @Test func placesThatRefuse() throws {
    let folder = try TemporaryFolder()
    let missing = try failure { _ = try start(try plan(folder.path("none/out"))) }
    #expect(missing.id == "output.no-folder" && missing.kind == .outputRefused)
    try folder.write("file", [])
    #expect(
      try failure { _ = try start(try plan(folder.path("file/out"))) }.id == "output.no-folder")
    #expect(try failure { _ = try start(try plan("/")) }.id == "output.path")
    #expect(try failure { _ = try start(try plan("")) }.found == "an empty path")
    #expect(try failure { _ = try start(try plan("/proc/out")) }.kind != .bug)
    #expect(try folder.names() == ["file"])
  }

  @Test(.enabled(if: geteuid() != 0, "root may write everywhere"))
  func aReadOnlyFolderRefuses() throws {
    let folder = try TemporaryFolder()
    try folder.makeFolder("locked")
    #expect(unsafe chmod(folder.path("locked"), 0o500) == 0)
    let error = try failure { _ = try start(try plan(folder.path("locked/out"))) }
    #expect(error.id == "output.permission" && error.kind == .permission)
  }

  @Test func moreThanTheDiskHasFailsAtOnce() throws {
    let folder = try TemporaryFolder()
    var huge = try plan(folder.path("out"))
    huge.files[0].tensors = [try info("x", .u8, [1 << 59])]
    let error = try failure { _ = try start(huge) }
    #expect(error.id == "output.no-space" && error.kind == .io)
    #expect(error.expected != nil && error.found != nil)
    #expect(try folder.names() == [])
  }

  @Test func anInputThatChangedStopsTheOutput() throws {
    let folder = try TemporaryFolder()
    try folder.write("in", safetensors("{}"))
    let writer = try start(
      try plan(folder.path("out")), inputs: [InputFile(folder.path("in"))])
    try folder.write("in", [1])
    #expect(try failure { try writer.commit() }.id == "io.changed")
    #expect(try failure { _ = try TensorFile(opening: folder.path("out")) }.id == "file.missing")
  }

  @Test func aRequestToStopLeavesNothing() throws {
    let folder = try TemporaryFolder()
    let interruption = Interruption()
    do {
      let writer = try start(try plan(folder.path("out")), interruption: interruption)
      interruption.request(signal: 15)
      #expect(try failure { try writer.commit() }.kind == .interrupted(signal: 15))
    }
    #expect(try folder.names() == [])
    let other = Interruption()
    let writer = try start(try plan(folder.path("out"), .folder), interruption: other)
    other.removeTemporaries()
    #expect(try folder.names() == [])
    #expect(throws: SurgeryError.self) { try writer.commit() }
  }

  @Test func longNamesHaveTemporariesToo() throws {
    let folder = try TemporaryFolder()
    let name = String(repeating: "n", count: 255)
    try start(try plan(folder.path(name))).commit()
    #expect(try folder.names() == [name])
  }

  @Test func extrasComeAlong() throws {
    let folder = try TemporaryFolder()
    let long = [UInt8](repeating: 3, count: 200_000)
    try folder.write("tokenizer", long)
    var plan = try plan(folder.path("out"), .folder)
    plan.extras = [
      .init(relativePath: "config.json", content: .bytes(Array("{}".utf8))),
      .init(relativePath: "deep/tokenizer", content: .copy(of: folder.path("tokenizer"))),
    ]
    try start(plan).commit()
    #expect(try folder.bytes("out/config.json") == Array("{}".utf8))
    #expect(try folder.bytes("out/deep/tokenizer") == long)
  }

  @Test func copiesTensorsInPieces() throws {
    let folder = try TemporaryFolder()
    let source = try TensorFile(opening: Fixtures.path("gguf/quantised.gguf"))
    let tensors = [source.tensors[0], source.tensors[1].undecoded]
    let plan = CheckpointPlan(
      path: folder.path("out.gguf"), kind: .file,
      files: [
        TensorFilePlan(
          relativePath: "out.gguf", format: .gguf, tensors: tensors.map(\.info), metadata: [:])
      ])
    let writer = try CheckpointWriter(
      plan, replacing: false, inputs: [source.file], interruption: Interruption())
    // Smaller than a block, so that pieces begin and end inside of elements.
    let stage = WriteStage()
    var scratch = [UInt8](repeating: 0, count: 7)
    for (index, tensor) in tensors.enumerated() {
      try writer.copy(
        tensor, bytes: 0..<tensor.info.byteCount, to: PlannedTensor(file: 0, tensor: index),
        scratch: &scratch, through: stage)
    }
    try stage.flush()
    try writer.commit()
    let written = try TensorFile(opening: folder.path("out.gguf"))
    for (tensor, copy) in zip(tensors, written.tensors) {
      #expect(tensor.info == copy.info)
      #expect(try tensor.bytes() == copy.bytes())
    }
  }
}

@Suite struct SpoolFileTests {
  @Test func keepsTensorsWithoutAName() async throws {
    let folder = try TemporaryFolder()
    let spool = try SpoolFile(beside: folder.path("out"))
    #expect(try folder.names() == [])
    let tensors = try await withThrowingTaskGroup { group in
      for n in 0..<16 {
        group.addTask {
          let bytes = [UInt8](repeating: UInt8(n), count: 100 * n)
          return try spool.append(bytes.span.bytes, as: try info("\(n)", .u8, [100 * n]))
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(tensors.count == 16)
    for tensor in tensors {
      let value = try #require(UInt8(tensor.name.text))
      #expect(try tensor.bytes() == [UInt8](repeating: value, count: 100 * Int(value)))
      try tensor.source.file.checkUnchanged()
    }
  }

  @Test func outlivesItsOwner() throws {
    let folder = try TemporaryFolder()
    let bytes: [UInt8] = [5, 6]
    let tensor = try SpoolFile(beside: folder.path("out"))
      .append(bytes.span.bytes, as: try info("t", .u8, [2]))
    #expect(try tensor.bytes() == [5, 6])
    #expect(
      try failure { _ = try SpoolFile(beside: folder.path("none/out")) }.id == "output.no-folder")
  }
}
