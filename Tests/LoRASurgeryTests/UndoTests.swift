import Foundation
import LoRASurgery
import Tensors
import Testing

@Suite struct UndoTests {
  @Test(arguments: [DType.bf16, .f16, .f32, .f64, .f8e5m2], [1, 3])
  func everyDtypeComesBackBitForBit(dtype: DType, jobs: Int) throws {
    let pair = try Pair(
      dtype, shapes: [[7, 5], [300, 500], [64, 64], [1, 90_000]], delta: 0.05, seed: 21)
    var request = pair.request()
    request.undo = pair.undo
    _ = try request.run(Execution(jobs: jobs))
    var back = pair.request(.unmerge)
    back.undo = pair.undo
    _ = try back.run(Execution(jobs: 4 - jobs))
    #expect(try Data(contentsOf: URL(fileURLWithPath: pair.back)).count > 0)
    let restored = try Files.read(pair.back)
    for tensor in pair.tensors { #expect(restored[tensor.name]?.bytes == tensor.bytes) }
  }

  @Test func aRecordThatTheModelWouldReplaceIsRefused() throws {
    let pair = try Pair(.bf16, shapes: [[7, 5]], seed: 28)
    for place in [pair.request().output, pair.request().output + "/merge.undo"] {
      var request = pair.request()
      request.undo = place
      let error = #expect(throws: SurgeryError.self) { _ = try request.run() }
      #expect(error?.id == "undo.place" && error?.file == place)
      #expect(error?.found == request.output && error?.hint != nil)
    }
  }

  @Test func aRecordOfSomethingElseIsNamed() throws {
    let pair = try Pair(.bf16, shapes: [[7, 5], [9, 5]], seed: 29)
    var request = pair.request()
    request.undo = pair.undo
    _ = try request.run(Execution(jobs: .max))
    var back = pair.request(.unmerge)
    back.undo = pair.undo
    func refusal(_ change: (inout MergeRequest) -> Void) -> SurgeryError? {
      var changed = back
      change(&changed)
      return #expect(throws: SurgeryError.self) { try changed.run() }
    }
    #expect(refusal { $0.dtype = .f32 }?.id == "undo.dtype")
    let other = try Pair(.bf16, shapes: [[5, 7], [9, 5]], seed: 30)
    var otherMerge = other.request()
    otherMerge.force = true
    _ = try otherMerge.run()
    let shape = refusal {
      $0.model = other.request().output
      $0.adapters = [WeightedAdapter(other.adapter)]
    }
    #expect(shape?.id == "undo.other-merged" && shape?.file == pair.undo)
    #expect(shape?.expected?.contains("[7, 5]") == true)
    #expect(shape?.found?.contains("[5, 7]") == true && shape?.tensor != nil)
    let twice = refusal { $0.adapters.append(WeightedAdapter(pair.adapter)) }
    #expect(twice?.id == "undo.other-adapter" && twice?.file == pair.undo)
    #expect(twice?.expected == "1 changes" && twice?.found == "2" && twice?.hint != nil)
    var record = try Data(contentsOf: URL(fileURLWithPath: pair.undo))
    record[8] = 9
    try record.write(to: URL(fileURLWithPath: pair.undo))
    let version = refusal { _ in }
    #expect(version?.id == "undo.version" && version?.kind == .unsupported)
    #expect(version?.found == "9" && version?.file == pair.undo)
  }

  @Test func theSameMergeMakesTheSameRecord() throws {
    let pair = try Pair(.bf16, shapes: [[700, 300], [90, 3000], [64, 64]], seed: 25)
    var records: [Data] = []
    for jobs in [1, 4, 3] {
      var request = pair.request()
      request.undo = pair.undo
      request.force = true
      _ = try request.run(Execution(jobs: jobs))
      records.append(try Data(contentsOf: URL(fileURLWithPath: pair.undo)))
    }
    #expect(records[0] == records[1] && records[0] == records[2])
  }

  @Test func everyOptionOfAMergeIsTakenBack() throws {
    let pair = try Pair(.bf16, shapes: [[100, 80], [80, 100]], seed: 22)
    for change in 0..<5 {
      var request = pair.request()
      request.undo = pair.undo
      request.force = true
      switch change {
      case 0: request.rounding = .stochastic(seed: 3)
      case 1: request.precision = .float64
      case 2: request.dtype = .f16
      case 3:
        request.adapters[0].weight = -0.7
        request.scaleFor = [ScaleRule(pattern: "layers.1", factor: 5)]
      default: request.adapters.append(WeightedAdapter(pair.adapter, weight: 3))
      }
      _ = try request.run()
      var back = pair.request(.unmerge)
      back.adapters = request.adapters.map { WeightedAdapter($0.path) }
      back.undo = pair.undo
      back.force = true
      _ = try back.run()
      let restored = try Files.read(pair.back)
      for tensor in pair.tensors {
        #expect(restored[tensor.name]?.bytes == tensor.bytes, "change \(change)")
        #expect(restored[tensor.name]?.dtype == tensor.dtype)
      }
    }
  }

  @Test func weightDecompositionAndReplacementsComeBack() throws {
    let pair = try Pair(.bf16, shapes: [[60, 40]], seed: 23)
    var random = Seeded(5)
    let (name, up, down) = pair.factors[0]
    try Files.writeAdapter(
      [
        down, up,
        Stored(
          "base_model.model.\(name).lora_magnitude_vector", .f32, [60],
          random.normals(60).map { abs($0) }),
        Stored("base_model.model.norm.weight", .f32, [5], random.normals(5)),
      ], to: pair.adapter, rank: 3, alpha: 6,
      config: #", "use_dora": true, "modules_to_save": ["norm"]"#)
    var request = pair.request()
    request.undo = pair.undo
    let report = try request.run()
    #expect(report.modules.contains { $0.action == .replaced })
    let plain = #expect(throws: SurgeryError.self) { try pair.request(.unmerge).run() }
    #expect(plain?.id == "unmerge.impossible")
    var back = pair.request(.unmerge)
    back.undo = pair.undo
    _ = try back.run()
    let restored = try Files.read(pair.back)
    for tensor in pair.tensors { #expect(restored[tensor.name]?.bytes == tensor.bytes) }
  }

  @Test func stackedMergesComeBackInOrderOrAreRefused() throws {
    let pair = try Pair(.bf16, shapes: [[90, 70]], seed: 24)
    let (second, secondUndo) = (pair.scratch.file("second.safetensors"), pair.scratch.file("undo2"))
    var request = pair.request()
    request.undo = pair.undo
    _ = try request.run()
    request = MergeRequest(
      model: pair.merged, adapters: [WeightedAdapter(pair.adapter, weight: 0.3)], output: second)
    request.undo = secondUndo
    _ = try request.run()
    var back = pair.request(.unmerge)
    back.model = second
    back.undo = pair.undo
    let error = #expect(throws: SurgeryError.self) { try back.run() }
    #expect(error?.id == "undo.other-merged")
    back.undo = secondUndo
    back.output = pair.scratch.file("between.safetensors")
    _ = try back.run()
    #expect(
      try Files.read(back.output)["layers.0.q.weight"]?.bytes
        == Files.read(pair.merged)["layers.0.q.weight"]?.bytes)
  }

  @Test func anAdapterThatTheRecordDoesNotKnowIsNamed() throws {
    let pair = try Pair(.bf16, shapes: [[30, 20], [20, 30]], seed: 26)
    let second = pair.scratch.file("second")
    for (path, index) in [(pair.adapter, 0), (second, 1)] {
      try Files.writeAdapter(
        [pair.factors[index].down, pair.factors[index].up], to: path, rank: 3, alpha: 6)
    }
    var request = pair.request()
    request.undo = pair.undo
    _ = try request.run()
    var back = pair.request(.unmerge)
    back.adapters.append(WeightedAdapter(second))
    back.undo = pair.undo
    let report = try back.run()
    #expect(report.adapters?.map(\.applied) == [1, 0])
    #expect(report.adapters?.map(\.excluded) == [0, 1])
    #expect(report.warnings.count { $0.hasPrefix(second) && $0.contains("stays as it is") } == 1)
    #expect(!report.warnings.contains { $0.hasPrefix(pair.adapter) })
    let restored = try Files.read(pair.back)
    for tensor in pair.tensors { #expect(restored[tensor.name]?.bytes == tensor.bytes) }
  }

  @Test func anotherAdapterOrADamagedRecordIsRefused() throws {
    let pair = try Pair(.f32, shapes: [[90, 70]], seed: 25)
    let other = try Pair(.f32, shapes: [[90, 70]], seed: 26)
    var request = pair.request()
    request.undo = pair.undo
    _ = try request.run()
    var back = pair.request(.unmerge)
    back.undo = pair.undo
    back.adapters = [WeightedAdapter(other.adapter)]
    #expect(throws: SurgeryError.self) { try back.run() }
    back.adapters = [WeightedAdapter(pair.adapter)]
    let record = [UInt8](try Data(contentsOf: URL(fileURLWithPath: pair.undo)))
    var random = Seeded(1)
    for round in 0..<200 {
      var damaged = record
      if round % 2 == 0 {
        damaged[Int.random(in: 0..<record.count, using: &random)] ^=
          1
          << UInt8.random(
            in: 0..<8, using: &random)
      } else {
        damaged.removeLast(Int.random(in: 1...record.count, using: &random))
      }
      try Data(damaged).write(to: URL(fileURLWithPath: pair.undo))
      do {
        _ = try back.run()
        // Four bytes of the header are reserved and the version's name is not covered: what comes back is right or refused.
        #expect(try Files.read(pair.back)["layers.0.q.weight"]?.bytes == pair.tensors[0].bytes)
        try FileManager.default.removeItem(atPath: pair.back)
      } catch let error as SurgeryError {
        #expect([.data, .unsupported].contains(error.kind), "\(error)")
      }
    }
    #expect(!FileManager.default.fileExists(atPath: pair.back))
  }

  @Test func recordsOfLowRankMergesAreSmall() throws {
    let pair = try Pair(.bf16, shapes: [[512, 512]], delta: 0.001, seed: 27)
    var request = pair.request()
    request.undo = pair.undo
    let report = try request.run()
    #expect(try #require(report.totals.undoBytes) < 512 * 512 * 2 / 10)
  }
}
