import Foundation
import LoRASurgery
import Tensors
import Testing

@Suite struct MergeTests {
  static let dtypes: [DType] = [.bf16, .f16, .f32, .f64]

  @Test(arguments: dtypes)
  func float64EqualsTheReferenceRoundedOnce(dtype: DType) throws {
    let pair = try Pair(
      dtype, shapes: [[7, 5], [33, 48], [16, 16], [1, 70], [130, 600]], seed: 2)
    var request = pair.request()
    request.precision = .float64
    _ = try request.run()
    let merged = try Files.read(pair.merged)
    for expected in pair.reference() {
      let actual = try #require(merged[expected.name])
      if dtype == .f64 {
        #expect(units(actual, expected).allSatisfy { $0 <= 64 })
      } else {
        #expect(actual.bytes == expected.bytes, "\(expected.name)")
      }
    }
  }

  @Test(arguments: [DType.bf16, .f16, .f32])
  func singlePrecisionIsWithinOneUnitAlmostNowhere(dtype: DType) throws {
    let pair = try Pair(dtype, shapes: [[300, 257], [64, 1000]], seed: 3)
    _ = try pair.request().run()
    let merged = try Files.read(pair.merged)
    var (total, different) = (0, 0)
    for expected in pair.reference() {
      let distances = units(try #require(merged[expected.name]), expected)
      let base = try #require(pair.tensors.first { $0.name == expected.name })
      // Below this the rounding of the delta, a float, is worth more than a unit.
      for (distance, (old, new)) in zip(distances, zip(base.values, expected.values)) {
        #expect(distance <= 1 || abs(new) < abs(old) / 1024)
      }
      total += distances.count
      different += distances.count { $0 > 0 }
    }
    #expect(Double(different) <= 0.001 * Double(total))
  }

  /// A model of whole numbers is none.
  @Test(arguments: [DType.i32, .u8, .bool, .c64, .f8e8m0, .blockQuantised(.q8_0)])
  func modelsAreStoredInFloatingPoint(_ dtype: DType) throws {
    let pair = try Pair(.f32, shapes: [[4, 4]], seed: 1)
    var merge = pair.request()
    merge.dtype = dtype
    #expect(surgeryError { _ = try merge.run() }?.id == "dtype.tensors")
    var convert = ConvertRequest(input: merge.model, output: pair.merged)
    convert.dtype = dtype
    #expect(surgeryError { _ = try convert.run() }?.id == "dtype.tensors")
    #expect(!FileManager.default.fileExists(atPath: pair.merged))
  }

  @Test func jobsDoNotChangeTheBytes() throws {
    let pair = try Pair(.bf16, shapes: [[600, 700], [40, 30]], seed: 4)
    for rounding in [RoundingMode.nearest, .stochastic(seed: 9)] {
      var outputs: [Data] = []
      for jobs in [1, 2, 5] {
        var request = pair.request()
        request.rounding = rounding
        request.force = true
        _ = try request.run(Execution(jobs: jobs))
        outputs.append(try Data(contentsOf: URL(fileURLWithPath: pair.merged)))
      }
      #expect(outputs.allSatisfy { $0 == outputs[0] })
    }
  }

  @Test func stochasticRoundingKeepsSmallDeltasOnAverage() throws {
    let pair = try Pair(.bf16, shapes: [[200, 300]], delta: 1e-5, seed: 5)
    let nearest = try pair.request().run()
    let lost = try #require(nearest.modules.first { $0.survivingShare != nil }?.survivingShare)
    #expect(lost < 0.5)
    #expect(nearest.warnings.contains { $0.contains("below the rounding step") })
    var request = pair.request()
    request.rounding = .stochastic(seed: 1)
    request.force = true
    let kept = try #require(try request.run().modules.first { $0.survivingShare != nil })
    #expect(try abs(#require(kept.survivingShare) - 1) < 0.2)
    let (before, after) = (
      pair.tensors[0], try #require(try Files.read(pair.merged)[pair.tensors[0].name])
    )
    let neighbours = zip(pair.reference(), [after])
    for (expected, actual) in neighbours {
      #expect(units(expected, actual).allSatisfy { $0 <= 1 })
    }
    #expect(before.bytes != after.bytes)
  }

  @Test func weightsAndRulesMultiply() throws {
    let pair = try Pair(.f32, shapes: [[20, 30], [30, 20]], seed: 6)
    var request = pair.request()
    request.adapters[0].weight = 0.5
    request.scaleFor = [ScaleRule(pattern: #"layers\.1\."#, factor: 3)]
    let report = try request.run()
    let merged = try Files.read(pair.merged)
    #expect(merged["layers.0.q.weight"]?.bytes == pair.reference(0.5)[0].bytes)
    #expect(merged["layers.1.q.weight"]?.bytes == pair.reference(1.5)[1].bytes)
    #expect(report.adapters?.first?.applied == 2)
    request.scaleFor = [ScaleRule(pattern: "nowhere", factor: 3)]
    request.force = true
    #expect(throws: SurgeryError.self) { try request.run() }
  }

  @Test func transposedStorageAndSeveralAdapters() throws {
    var pair = try Pair(.f32, shapes: [[24, 40]], seed: 7)
    let straight = pair.tensors[0]
    let values = straight.values
    pair.tensors[0] = Stored(
      straight.name, .f32, [40, 24],
      (0..<values.count).map { values[$0 % 24 * 40 + $0 / 24] })
    try Files.write(pair.tensors, to: pair.base)
    var request = pair.request()
    request.adapters = [WeightedAdapter(pair.adapter), WeightedAdapter(pair.adapter, weight: 2)]
    _ = try request.run()
    let expected = zip(pair.tensors[0].values, pair.delta(0, transposed: true)).map { $0 + 3 * $1 }
    let actual = try #require(try Files.read(pair.merged)[straight.name])
    #expect(units(actual, Stored(straight.name, .f32, [40, 24], expected)).allSatisfy { $0 <= 1 })
  }

  @Test func unmergeSubtractsAndSaysWhatIsLost() throws {
    let pair = try Pair(.bf16, shapes: [[50, 60]], seed: 8)
    _ = try pair.request().run()
    let report = try pair.request(.unmerge).run()
    #expect(report.warnings.contains { $0.contains("3000 elements") })
    let back = try Files.read(pair.back)
    let distances = units(try #require(back["layers.0.q.weight"]), pair.tensors[0])
    #expect(distances.count { $0 == 0 } > 2000)
  }

  @Test func overflowIsRefusedUnlessAllowed() throws {
    var pair = try Pair(.f16, shapes: [[8, 8]], delta: 100_000, seed: 9)
    _ = pair.tensors.removeLast()
    var request = pair.request()
    let error = #expect(throws: SurgeryError.self) { try request.run() }
    #expect(error?.id == "dtype.overflow")
    #expect(!FileManager.default.fileExists(atPath: pair.merged))
    request.allowOverflow = true
    #expect(try request.run().modules.contains { ($0.overflowed ?? 0) > 0 })
  }

  @Test func nonFiniteValuesAreNamedBeforeAnythingIsWritten() throws {
    var pair = try Pair(.f32, shapes: [[8, 8]], seed: 10)
    let clean = pair.factors[0]
    var up = clean.up
    var values = up.values
    values[5] = .nan
    up = Stored(up.name, .f32, up.shape, values)
    try Files.writeAdapter([clean.down, up], to: pair.adapter, rank: 3, alpha: 6)
    let error = #expect(throws: SurgeryError.self) { try pair.request().run() }
    #expect(error?.id == "adapter.non-finite")
    #expect(error?.tensor == up.name)
    try Files.writeAdapter([clean.down, clean.up], to: pair.adapter, rank: 3, alpha: 6)
    values = pair.tensors[0].values
    values[63] = .infinity
    pair.tensors[0] = Stored(pair.tensors[0].name, .f32, [8, 8], values)
    try Files.write(pair.tensors, to: pair.base)
    let other = #expect(throws: SurgeryError.self) { try pair.request().run() }
    #expect(other?.id == "tensor.non-finite")
    #expect(other?.what.contains("63") == true)
    #expect(try FileManager.default.contentsOfDirectory(atPath: pair.scratch.path).count == 2)
  }

  @Test func outputsThatWouldHarmAreRefused() throws {
    let pair = try Pair(.bf16, shapes: [[8, 8]], seed: 11)
    let files = FileManager.default
    let link = pair.scratch.file("link.safetensors")
    let hard = pair.scratch.file("hard.safetensors")
    let existing = pair.scratch.file("existing.safetensors")
    try files.createSymbolicLink(atPath: link, withDestinationPath: pair.base)
    try files.linkItem(atPath: pair.base, toPath: hard)
    try Data("old".utf8).write(to: URL(fileURLWithPath: existing))
    let before = try Data(contentsOf: URL(fileURLWithPath: pair.base))
    for (path, id, force) in [
      (pair.base, "output.is-input", true), (hard, "output.is-input", true),
      (link, "output.link", true), (existing, "output.exists", false),
      (pair.scratch.file("no/such/folder.safetensors"), "output.no-folder", false),
    ] {
      var request = pair.request()
      request.output = path
      request.force = force
      let error = #expect(throws: SurgeryError.self) { try request.run() }
      #expect(error?.id == id, "\(path)")
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: pair.base)) == before)
    #expect(try Data(contentsOf: URL(fileURLWithPath: existing)) == Data("old".utf8))
  }

  @Test func quantisedBasesAreRefused() throws {
    var pair = try Pair(.f8e4m3, shapes: [[8, 8]], seed: 12)
    pair.tensors.append(Stored("layers.0.q.weight_scale", .f32, [1], [1]))
    try Files.write(pair.tensors, to: pair.base)
    let error = #expect(throws: SurgeryError.self) { try pair.request().run() }
    #expect(error?.id == "merge.quantised")
    #expect(error?.kind == .unsupported)
  }

  @Test func foldersKeepTheirFilesAndConfigurationsFollow() throws {
    let pair = try Pair(.f32, shapes: [[8, 8]], seed: 13)
    let folder = pair.scratch.file("model")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try Files.write(pair.tensors, to: folder + "/model.safetensors")
    try Data(#"{"torch_dtype": "float32", "other": [1, 2]}"#.utf8)
      .write(to: URL(fileURLWithPath: folder + "/config.json"))
    try Data("words".utf8).write(to: URL(fileURLWithPath: folder + "/tokenizer.json"))
    for name in [
      "1_Pooling/config.json", "onnx/model.onnx", "tf_model.h5", "training_args.bin",
      "checkpoint-5/config.json", "checkpoint-5/model.safetensors",
    ] {
      let place = URL(fileURLWithPath: folder + "/" + name)
      try FileManager.default.createDirectory(
        at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data("pooled".utf8).write(to: place)
    }
    var request = pair.request()
    request.model = folder
    request.output = pair.scratch.file("out")
    request.dtype = .bf16
    let report = try request.run()
    let config = try String(contentsOfFile: request.output + "/config.json", encoding: .utf8)
    #expect(config.contains(#""torch_dtype": "bfloat16""#))
    #expect(config.contains("other"))
    #expect(report.warnings.contains { $0.contains("torch_dtype") })
    #expect(
      try String(contentsOfFile: request.output + "/tokenizer.json", encoding: .utf8) == "words")
    #expect(try Files.read(request.output)["layers.0.q.weight"]?.dtype == .bf16)
    // What sentence-transformers keeps in a folder is part of the model; old weights and checkpoints are not.
    let pooling = request.output + "/1_Pooling/config.json"
    #expect(try String(contentsOfFile: pooling, encoding: .utf8) == "pooled")
    let names = try FileManager.default.contentsOfDirectory(atPath: request.output).sorted()
    #expect(names == ["1_Pooling", "config.json", "model.safetensors", "tokenizer.json"])
    #expect(
      report.warnings.contains {
        $0.hasSuffix("tf_model.h5, training_args.bin, checkpoint-5/, onnx/")
      }, "\(report.warnings)")
  }
}
