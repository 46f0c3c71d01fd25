import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

/// What converting does besides changing the container.
struct ConvertFormsTests {
  private static func fixture(_ name: String) -> String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("fixtures/" + name).path
  }

  private static func bytes(_ path: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: path))
  }

  private static func convert(
    _ input: String, to output: String, _ change: (inout ConvertRequest) throws -> Void = { _ in }
  ) throws -> OperationReport {
    var request = ConvertRequest(input: input, output: output)
    try change(&request)
    return try request.run()
  }

  @Test(arguments: [nil, 1, 6, 9] as [Int?])
  func everyDTypeThroughNpz(level: Int?) throws {
    let folder = try TemporaryFolder()
    _ = try Self.convert(
      Self.fixture("safetensors/all_dtypes.safetensors"), to: folder("a.npz")
    ) { $0.form.compression = level }
    _ = try Self.convert(folder("a.npz"), to: folder("b.safetensors"))
    #expect(
      try Self.bytes(folder("b.safetensors"))
        == Self.bytes(Self.fixture("safetensors/all_dtypes.safetensors")))
  }

  @Test func compressionIsForNpz() throws {
    let folder = try TemporaryFolder()
    let error = surgeryError {
      _ = try Self.convert(
        Self.fixture("safetensors/shapes.safetensors"), to: folder("a.safetensors")
      ) { $0.form.compression = 1 }
    }
    #expect(error?.id == "output.compression" && error?.kind == .usage)
    #expect(folder.contents.isEmpty)
  }

  @Test func inflatingIsLimited() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(
      [TestTensor(name: "w", shape: [64, 64], values: .init(repeating: 0, count: 4096))],
      to: folder("zeros.safetensors"))
    _ = try Self.convert(folder("zeros.safetensors"), to: folder("zeros.npz")) {
      $0.form.compression = 9
    }
    let request = ConvertRequest(input: folder("zeros.npz"), output: folder("a.safetensors"))
    let error = surgeryError {
      _ = try request.run(Execution(limits: ReadLimits(inflatedBytes: 16000)))
    }
    #expect(error?.id == "zip.max-inflate" && error?.hint?.contains("--max-inflate") == true)
    _ = try request.run(Execution(limits: ReadLimits(inflatedBytes: 17000)))
    #expect(
      try Self.bytes(folder("a.safetensors")) == Self.bytes(folder("zeros.safetensors")))
  }

  @Test func matricesAreTransposed() throws {
    let folder = try TemporaryFolder()
    let (rows, columns) = (300, 257)
    let values = (0..<rows * columns).map { Double($0) }
    let wide = { (name: TensorName, dtype: DType) in
      TestTensor(name: name, shape: [rows, columns], values: values, dtype: dtype)
    }
    try TestModels.write(
      [
        wide("h.0.attn.weight", .f32), wide("h.0.attn.wide", .f64), wide("h.0.mlp.weight", .i64),
        wide("head", .f32), TestTensor(name: "h.0.attn.bias", shape: [3], values: [1, 2, 3]),
      ], to: folder("a.safetensors"))
    for name in ["b.safetensors", "b.npz"] {
      let report = try Self.convert(folder("a.safetensors"), to: folder(name)) {
        $0.transposed = ["attn", "mlp"]
      }
      #expect(report.modules.filter { $0.reason == "transposed" }.count == 3)
      let written = try Checkpoint(opening: folder(name))
      for tensor: TensorName in ["h.0.attn.weight", "h.0.attn.wide", "h.0.mlp.weight"] {
        #expect(written[tensor]?.info.shape.dimensions == [columns, rows])
        let turned = try TestModels.values(tensor, in: folder(name))
        let expected = (0..<columns).flatMap { column in
          (0..<rows).map { values[$0 * columns + column] }
        }
        #expect(turned == expected, "\(tensor)")
      }
      #expect(try TestModels.values("head", in: folder(name)) == values)
      #expect(try TestModels.values("h.0.attn.bias", in: folder(name)) == [1, 2, 3])
    }
    _ = try Self.convert(folder("b.safetensors"), to: folder("c.safetensors")) {
      $0.transposed = ["attn", "mlp"]
    }
    #expect(try Self.bytes(folder("c.safetensors")) == Self.bytes(folder("a.safetensors")))
    let error = surgeryError {
      _ = try Self.convert(folder("a.safetensors"), to: folder("d.safetensors")) {
        $0.transposed = ["bias"]
      }
    }
    #expect(error?.id == "convert.transpose")
  }

  @Test func quantisedTensorsStayOrAreAskedFor() throws {
    let folder = try TemporaryFolder()
    let quantised = Self.fixture("gguf/quantised.gguf")
    let error = surgeryError { _ = try Self.convert(quantised, to: folder("a.safetensors")) }
    #expect(error?.id == "convert.quantised" && error?.kind == .unsupported)
    #expect(error?.hint?.contains("--dtype f32") == true)
    let source = try Checkpoint(opening: quantised)
    let q8 = try #require(source.tensors.first { $0.storedDType != $0.info.dtype })
    _ = try Self.convert(quantised, to: folder("a.safetensors")) {
      $0.selection = Selection(include: [q8.name.text])
      $0.dtype = .f32
    }
    #expect(
      try #require(try Checkpoint(opening: folder("a.safetensors"))[q8.name]).bytes()
        == [UInt8](Self.bytes(Self.fixture("gguf/q8_0.f32"))))
    _ = try Self.convert(quantised, to: folder("a.gguf"))
    let copy = try Checkpoint(opening: folder("a.gguf"))
    for tensor in source.tensors {
      let other = try #require(copy[tensor.name])
      #expect(other.storedDType == tensor.storedDType)
      #expect(try other.undecoded.bytes() == tensor.undecoded.bytes())
    }
  }

  @Test func typedMetadataOfGGUFStays() throws {
    let folder = try TemporaryFolder()
    let original = Self.fixture("gguf/all_types.gguf")
    _ = try Self.convert(original, to: folder("a.gguf")) {
      $0.metadata = ["t.u8": "7", "note": "new"]
      $0.droppedMetadata = ["t.i8"]
    }
    let (before, after) = (
      try TensorFile(opening: original).ggufMetadata,
      try TensorFile(opening: folder("a.gguf")).ggufMetadata
    )
    for key in before.keys where !["t.u8", "t.i8"].contains(key) {
      #expect(after[key] == before[key], "\(key)")
    }
    #expect(
      after["t.i8"] == nil && after["t.u8"] == .string("7") && after["note"] == .string("new"))
  }

  /// Words that mean the same whatever the container is.
  @Test(arguments: ["out.safetensors", "out.npz", "out.gguf", "arrays", "sharded"])
  func wordsWorkInEveryForm(output: String) throws {
    let folder = try TemporaryFolder()
    try TestModels.write(TestModels.pair(rank: 1).base, to: folder("model.safetensors"))
    _ = try Self.convert(folder("model.safetensors"), to: folder("in.safetensors")) {
      $0.metadata = ["kept": "1", "gone": "2"]
    }
    _ = try Self.convert(folder("in.safetensors"), to: folder(output)) {
      $0.form.format = output == "arrays" ? .npy : nil
      $0.form.maximumShardSize = output == "sharded" ? 1200 : nil
      $0.renamings = [try Renaming(#"s/^layer\.(\d+)\./blocks.$1./"#), try Renaming("s/norm/ln/")]
      $0.selection = Selection(include: ["layer"], exclude: ["head"])
      $0.dtype = .f16
      $0.metadata = ["added": "é"]
      $0.droppedMetadata = ["gone"]
    }
    let written = try Checkpoint(opening: folder(output))
    #expect(Set(written.tensors.map(\.name)) == ["blocks.0.proj.weight", "blocks.0.ln.weight"])
    #expect(written.tensors.allSatisfy { $0.info.dtype == .f16 })
    #expect(written.metadata == ["kept": "1", "added": "é"])
    #expect(output != "sharded" || written.files.count == 2)
  }

  @Test func shardsThatLoseEveryTensorGo() throws {
    let folder = try TemporaryFolder()
    try TestModels.write(TestModels.pair(rank: 1).base, to: folder("model.safetensors"))
    _ = try Self.convert(folder("model.safetensors"), to: folder("sharded")) {
      $0.form.maximumShardSize = 300
    }
    let shards = try Checkpoint(opening: folder("sharded")).files.count
    _ = try Self.convert(folder("sharded"), to: folder("part")) {
      $0.selection = Selection(include: ["proj"])
    }
    #expect(shards == 3)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder("part")).count == 2)
    #expect(try Checkpoint(opening: folder("part")).tensors.map(\.name) == ["layer.0.proj.weight"])
  }

  @Test(arguments: [
    ("s/a/b/", "xay", "xby"), ("s|/|.|", "a/b", "a.b"), (#"s/(\w)\.(\w)/\2.$1/"#, "a.b", "b.a"),
    ("s/^/model./", "w", "model.w"),
  ])
  func namesAreSubstituted(text: String, name: TensorName, expected: TensorName) throws {
    let folder = try TemporaryFolder()
    try TestModels.write(
      [TestTensor(name: name, shape: [1], values: [1])], to: folder("a.safetensors"))
    _ = try Self.convert(folder("a.safetensors"), to: folder("b.safetensors")) {
      $0.renamings = [try Renaming(text)]
    }
    #expect(try Checkpoint(opening: folder("b.safetensors")).tensors.map(\.name) == [expected])
  }
}
