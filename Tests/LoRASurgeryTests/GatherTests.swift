import Adapters
import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

/// Gathered parts against what one process writes.
struct GatherTests {
  @Test(arguments: [1, 2, 3, 7])
  func extractionGivesTheBytesOfOneProcess(parts: Int) throws {
    let models = try PartModels()
    let alone = try models.extraction(to: "alone").run()
    for number in (1...parts).shuffled() {
      var request = models.extraction(to: "pieces/")
      request.part = try Part(number, of: parts)
      _ = try request.run()
    }
    let gathered = try GatherRequest(
      pieces: [models.folder("pieces")], output: models.folder("gathered")
    ).run()
    #expect(try models.bytes(in: "gathered") == models.bytes(in: "alone"))
    #expect(gathered.modules.map(\.tensor) == alone.modules.map(\.tensor))
    #expect(gathered.modules.map(\.residualNorm) == alone.modules.map(\.residualNorm))
    #expect(gathered.totals.capturedEnergy == alone.totals.capturedEnergy)
    #expect(gathered.totals.parameters == alone.totals.parameters)
    #expect(gathered.totals.bytesRead == alone.totals.bytesRead)
    #expect(gathered.totals.bytesWritten == alone.totals.bytesWritten)
    #expect(gathered.warnings == alone.warnings)
    // A compact file says by samples which base it belongs to.
    _ = try models.extraction(to: "alone.lra").run()
    _ = try GatherRequest(
      pieces: [models.folder("pieces")], output: models.folder("gathered.lra")
    ).run()
    #expect(
      FileManager.default.contentsEqual(
        atPath: models.folder("alone.lra"), andPath: models.folder("gathered.lra")))
  }

  @Test(arguments: ["m.safetensors", "m", "m.npz"], [1, 3])
  func mergingGivesTheBytesOfOneProcess(output: String, parts: Int) throws {
    let models = try PartModels()
    _ = try models.extraction(to: "adapter").run()
    for base in ["base", "sharded"] {
      let alone = try models.merge(base, to: "\(base)-alone-\(output)").run()
      let pieces = try (1...parts).map { number in
        var request = models.merge(base, to: "\(base)-\(number)-\(output)")
        request.part = try Part(number, of: parts)
        return try #require(try request.run().output)
      }
      let gathered = try GatherRequest(
        pieces: pieces.reversed(), output: models.folder("\(base)-\(output)")
      ).run()
      #expect(
        try models.bytes(in: "\(base)-\(output)") == models.bytes(in: "\(base)-alone-\(output)"))
      #expect(gathered.modules.map(\.changedElements) == alone.modules.map(\.changedElements))
      #expect(gathered.modules.map(\.survivingShare) == alone.modules.map(\.survivingShare))
      #expect(gathered.totals.deltaNorm == alone.totals.deltaNorm)
      #expect(gathered.totals.bytesWritten == alone.totals.bytesWritten)
      #expect(gathered.warnings == alone.warnings)
    }
  }

  @Test func dryRunsSayWhatEachPartReads() throws {
    let models = try PartModels()
    _ = try models.extraction(to: "adapter").run()
    for number in 1...2 {
      var (extraction, merge) = (models.extraction(to: "x"), models.merge("sharded", to: "y"))
      (extraction.part, merge.part) = (try Part(number, of: 2), try Part(number, of: 2))
      (extraction.dryRun, merge.dryRun) = (true, true)
      let planned = [try extraction.run(), try merge.run()].map(\.totals.bytesRead)
      (extraction.dryRun, merge.dryRun) = (false, false)
      (extraction.output, merge.output) = (models.folder("x\(number)"), models.folder("y\(number)"))
      let done = [try extraction.run(), try merge.run()].map(\.totals.bytesRead)
      #expect(planned == done && planned.allSatisfy { $0 > 0 }, "part \(number)")
    }
  }

  @Test func completeShardsAreNotCopied() throws {
    let models = try PartModels()
    _ = try models.extraction(to: "adapter").run()
    _ = try models.merge("sharded", to: "alone").run()
    for number in 1...2 {
      var request = models.merge("sharded", to: "pieces/")
      request.part = try Part(number, of: 2)
      _ = try request.run()
    }
    _ = try GatherRequest(pieces: [models.folder("pieces")], output: models.folder("merged")).run()
    #expect(try models.bytes(in: "merged") == models.bytes(in: "alone"))
    let shards = try models.bytes(in: "pieces").keys.filter { $0.contains("model-0") }
    #expect(!shards.isEmpty)
    for shard in shards {
      let name = shard.split(separator: "/").suffix(1).joined()
      #expect(try models.inode("pieces/\(shard)") == models.inode("merged/\(name)"))
    }
  }

  @Test func conversionGivesTheBytesOfOneProcess() throws {
    let models = try PartModels()
    for (output, dtype) in [("c.npz", DType.f16), ("c.safetensors", .bf16), ("c", .f16)] {
      func request(to name: String) throws -> ConvertRequest {
        var request = ConvertRequest(
          input: models.folder("sharded"), output: models.folder(name))
        request.dtype = dtype
        request.selection = Selection(exclude: ["norm"])
        request.renamings = [try Renaming("s/^layer/block/")]
        request.metadata = ["author": "me"]
        return request
      }
      _ = try request(to: "alone-\(output)").run()
      for number in 1...3 {
        var part = try request(to: "piece-\(number)-\(output)")
        part.part = try Part(number, of: 3)
        _ = try part.run()
      }
      _ = try GatherRequest(
        pieces: (1...3).map { models.folder("piece-\($0)-\(output)") },
        output: models.folder(output)
      ).run()
      #expect(try models.bytes(in: output) == models.bytes(in: "alone-\(output)"))
    }
  }

  @Test func aPartThatIsDoneIsLeftAsItIs() throws {
    let models = try PartModels()
    var request = models.extraction(to: "piece")
    request.part = try Part(1, of: 2)
    #expect(try request.run().part?.wasDone == false)
    let before = try models.inode("piece")
    let again = try request.run()
    #expect(again.part?.wasDone == true)
    #expect(again.modules.isEmpty == false)
    #expect(try models.inode("piece") == before)
    request.force = true
    #expect(try request.run().part?.wasDone == false)
    #expect(try models.inode("piece") != before)
    // Another part, or other options, are not done.
    request.force = false
    request.part = try Part(2, of: 2)
    #expect(surgeryError { _ = try request.run() }?.id == "output.exists")
    request.part = try Part(1, of: 2)
    request.ranks = RankOptions(rank: 3)
    #expect(surgeryError { _ = try request.run() }?.id == "output.exists")
  }

  @Test func whatHangsTogetherIsNotDivided() throws {
    let models = try PartModels()
    var extraction = models.extraction(to: "piece")
    extraction.ranks = RankOptions()
    extraction.ranks.budget = .share(0.1)
    extraction.part = try Part(1, of: 2)
    #expect(surgeryError { _ = try extraction.run() }?.id == "part.budget")
    for direction in [MergeDirection.merge, .unmerge] {
      var merge = MergeRequest(
        direction, model: models.folder("base"), adapters: [], output: models.folder("piece"))
      merge.undo = models.folder("undo")
      merge.part = try Part(1, of: 2)
      #expect(surgeryError { _ = try merge.run() }?.id == "part.undo")
    }
  }
}

/// Parts that do not make a whole.
struct PartRefusalTests {
  /// Two parts of an extraction, with one of them made otherwise.
  private func pieces(
    _ models: PartModels, second change: (inout ExtractRequest) throws -> Void = { _ in }
  ) throws -> [String] {
    try (1...2).map { number in
      var request = models.extraction(to: "piece-\(number)")
      request.part = try Part(number, of: 2)
      if number == 2 { try change(&request) }
      return try #require(try request.run().output)
    }
  }

  private func failure(_ models: PartModels, _ pieces: [String]) -> SurgeryError? {
    let failure = surgeryError {
      _ = try GatherRequest(pieces: pieces, output: models.folder("result")).run()
    }
    #expect(!FileManager.default.fileExists(atPath: models.folder("result")))
    return failure
  }

  @Test func lostAndRepeatedPartsAreNamed() throws {
    let models = try PartModels()
    let pieces = try pieces(models)
    let lost = failure(models, [pieces[1]])
    #expect(lost?.id == "part.missing")
    #expect(lost?.what.contains("1/2") == true)
    let repeated = failure(models, pieces + [pieces[0]])
    #expect(repeated?.id == "part.repeated")
    #expect(repeated?.what.contains("1/2") == true)
  }

  @Test func otherOptionsAreNamed() throws {
    let models = try PartModels()
    let pieces = try pieces(models) { $0.seed = 7 }
    let failure = failure(models, pieces)
    #expect(failure?.id == "part.disagrees")
    #expect(failure?.what.contains("option seed") == true)
    #expect(failure?.file == pieces[1])
  }

  @Test func otherInputsAreFound() throws {
    let models = try PartModels()
    // The same shapes and sizes, other values.
    let other = TestModels.pair(rank: 2, seed: 9, dtype: .bf16)
    try TestModels.write(models.grown(other.tuned), to: models.folder("other"))
    let pieces = try pieces(models) { $0.tuned = models.folder("other") }
    let failure = failure(models, pieces)
    #expect(failure?.id == "part.disagrees")
    #expect(failure?.what.contains("input") == true)
  }

  @Test func inputsMayLieElsewhere() throws {
    let models = try PartModels()
    try FileManager.default.copyItem(
      atPath: models.folder("tuned"), toPath: models.folder("copy"))
    let pieces = try pieces(models) { $0.tuned = models.folder("copy") }
    _ = try GatherRequest(pieces: pieces, output: models.folder("result")).run()
  }

  @Test func anotherNumberOfPartsIsFound() throws {
    let models = try PartModels()
    let pieces = try pieces(models) { $0.part = try Part(2, of: 3) }
    #expect(failure(models, pieces)?.id == "part.disagrees")
  }

  @Test func anotherVersionIsFound() throws {
    let models = try PartModels()
    let pieces = try pieces(models)
    try models.editManifest(of: pieces[1]) {
      $0.replacing(#""version":"\#(Version.current)""#, with: #""version":"0.0.1""#)
    }
    let failure = failure(models, pieces)
    #expect(failure?.id == "part.disagrees")
    #expect(failure?.found == "0.0.1")
  }

  @Test func aDamagedManifestIsFound() throws {
    let models = try PartModels()
    let pieces = try pieces(models)
    let whole = try Data(contentsOf: URL(fileURLWithPath: pieces[1]))
    func write(_ data: Data) throws {
      try data.write(to: URL(fileURLWithPath: pieces[1]))
    }
    // One digit of a number in the manifest, which stays a manifest.
    let place = try #require(whole.range(of: Data(#"\"positions\":"#.utf8)))
    var flipped = whole
    flipped[place.upperBound] ^= 1
    try write(flipped)
    #expect(failure(models, pieces)?.id == "part.damaged")
    try write(whole.prefix(whole.count / 2))
    #expect(failure(models, pieces)?.kind == .data)
    try write(whole)
    for change in [
      { $0.replacing(#""position":"#, with: #""position":-"#) },
      { $0.replacing(#""position":"#, with: #""position":9"#) },
      { $0.replacing(#""shape":["#, with: #""shape":[1,"#) },
      { $0.replacing(#""entries""#, with: #""others""#) }, { _ in "[]" }, { _ in "" },
    ] as [(String) -> String] {
      try write(whole)
      try models.editManifest(of: pieces[1], change)
      #expect(failure(models, pieces)?.id == "part.damaged")
    }
  }

  /// Both parts of a merge that lies in the pieces' own files.
  private func mergedPieces(_ models: PartModels, _ base: String = "base") throws -> [String] {
    _ = try models.extraction(to: "adapter").run()
    return try (1...2).map { number in
      var request = models.merge(base, to: "merged-\(number).safetensors")
      request.part = try Part(number, of: 2)
      return try #require(try request.run().output)
    }
  }

  /// The places of the tensors that a piece says it holds.
  private func positions(_ piece: String) throws -> [String] {
    let text = try #require(try TensorFile(opening: piece).metadata["lora_surgery.part"])
    return text.matches(of: /"position":([0-9]+)/).map { String($0.1) }
  }

  @Test func aTensorOfTwoPartsIsNamed() throws {
    let models = try PartModels()
    let pieces = try mergedPieces(models)
    let (own, other) = (try positions(pieces[1]), try positions(pieces[0]))
    try models.editManifest(of: pieces[1]) {
      $0.replacing(#""position":\#(own[0]),"#, with: #""position":\#(other[0]),"#)
    }
    let error = failure(models, pieces)
    #expect(error?.id == "part.damaged" && error?.what.contains("another part") == true, "\(own)")
    #expect(error?.file == pieces[1] && error?.found == pieces[0] && error?.tensor != nil)
  }

  @Test func aTensorOfNoPartIsMissed() throws {
    let models = try PartModels()
    let pieces = try mergedPieces(models)
    let count = try pieces.reduce(0) { try $0 + positions($1).count }
    for piece in pieces {
      try models.editManifest(of: piece) {
        $0.replacing(#""positions":\#(count)"#, with: #""positions":\#(count + 1)"#)
      }
    }
    let error = failure(models, pieces)
    #expect(error?.id == "part.damaged" && error?.kind == .data)
    #expect(error?.expected == "\(count + 1) tensors" && error?.found == "\(count)")
    #expect(error?.what.contains("every tensor") == true && error?.file == pieces[0])
  }

  /// Both parts agree in what neither can be put together by.
  @Test(arguments: [
    (#"\"ranks\":"#, #"\"rinks\":"#, "options"),
    (#""extraction":"#, #""extractor":"#, "neither an adapter nor a checkpoint"),
    (#""baseConfig":"{"#, #""baseConfig":""#, "configuration of the base"),
  ])
  func manifestsThatLackWhatGatheringNeeds(_ old: String, _ new: String, _ says: String) throws {
    let models = try PartModels()
    let pieces = try pieces(models)
    for piece in pieces {
      try models.editManifest(of: piece) { $0.replacing(old, with: new) }
    }
    let error = failure(models, pieces)
    #expect(error?.id == "part.damaged" && error?.what.contains(says) == true)
    #expect(error?.file == pieces[0])
  }

  @Test func tensorsThatAPieceLacksAreNamed() throws {
    let models = try PartModels()
    let pieces = try pieces(models)
    let free = try #require(try positions(pieces[0]).first)
    try models.editManifest(of: pieces[1]) { text in
      let entry = /"content":"factors"[^}]*},"position":/
      guard let range = text.firstRange(of: entry) else { return text }
      let digits = text[range.upperBound...].prefix { $0 != "," }
      return text.replacingCharacters(in: digits.startIndex..<digits.endIndex, with: free)
    }
    let error = failure(models, pieces)
    #expect(error?.id == "part.damaged" && error?.file == pieces[1], "\(String(describing: error))")
    #expect(error?.what.contains("lacks a tensor") == true)
    #expect(error?.found?.hasPrefix("\(free).") == true)
  }

  @Test func tensorsThatAFileOfAPieceLacksAreNamed() throws {
    let models = try PartModels()
    let pieces = try models.mergedPieces()
    for piece in pieces {
      try models.editManifest(of: piece + "/part.safetensors") { text in
        guard let shard = text.firstMatch(of: /"shard":\{[^}]*"name":"/) else { return text }
        return text.replacingCharacters(in: shard.range, with: shard.0 + "no.")
      }
    }
    let found = failure(models, pieces)
    #expect(found?.id == "part.damaged" && found?.found?.hasPrefix("no.") == true)
    #expect(found?.what.contains("lacks a tensor") == true && found?.file != nil)
  }

  @Test func sumsThatAreNoneAreFound() throws {
    let models = try PartModels()
    let pieces = try mergedPieces(models)
    let whole = try Data(contentsOf: URL(fileURLWithPath: pieces[1]))
    for (says, change) in [
      ("impossible shape", { info, _ in info = try reshaped(info, to: [info.shape.elementCount]) }),
      (
        "no numbers",
        { _, bytes in
          // The fourth and the fifth of a row are counts.
          for index in 24..<40 { bytes[index] = 0xFF }
        }
      ),
    ] as [(String, (inout TensorInfo, inout [UInt8]) throws -> Void)] {
      try whole.write(to: URL(fileURLWithPath: pieces[1]))
      try models.editManifest(of: pieces[1], sums: change) { $0 }
      let error = failure(models, pieces)
      #expect(error?.id == "part.damaged" && error?.file == pieces[1])
      #expect(error?.what.contains(says) == true, "\(String(describing: error))")
    }
  }

  private func reshaped(_ info: TensorInfo, to dimensions: [Int]) throws -> TensorInfo {
    let shape = try #require(Shape(dimensions))
    return try #require(TensorInfo(name: info.name, dtype: info.dtype, shape: shape))
  }

  /// What a container can hold is decided when its parts are made.
  @Test func partsOfAnotherFormatAreRefused() throws {
    let models = try PartModels()
    let pieces = try (1...2).map { number in
      var request = ConvertRequest(
        input: models.folder("base"), output: models.folder("piece-\(number).npz"))
      request.part = try Part(number, of: 2)
      return try #require(try request.run().output)
    }
    let error = surgeryError {
      _ = try GatherRequest(pieces: pieces, output: models.folder("whole.safetensors")).run()
    }
    #expect(error?.id == "part.format" && error?.kind == .usage, "\(String(describing: error))")
    #expect(error?.file == models.folder("whole.safetensors"))
    #expect(error?.expected == "npz" && error?.found == "safetensors")
    #expect(error?.hint?.contains("--to safetensors") == true)
    #expect(!models.folder.contents.contains("whole.safetensors"))
  }

  @Test func formatsThatArePutTogetherOtherwiseAreNotDivided() throws {
    let models = try PartModels()
    var request = ConvertRequest(input: models.folder("base"), output: models.folder("m.gguf"))
    request.part = try Part(1, of: 2)
    let error = surgeryError { _ = try request.run() }
    #expect(error?.id == "part.format" && error?.kind == .unsupported)
    #expect(error?.found == "gguf" && error?.file == models.folder("m.gguf"))
    #expect(error?.hint?.contains("--part") == true)
    #expect(!models.folder.contents.contains("m.gguf"))
  }

  @Test func otherFilesAreNoParts() throws {
    let models = try PartModels()
    #expect(failure(models, [models.folder("base/model.safetensors")])?.id == "part.unknown")
    #expect(failure(models, [models.folder("base")])?.id == "part.unknown")
    #expect(failure(models, [models.folder("nowhere")])?.id == "file.missing")
  }

  @Test func aFileOutsideThePieceIsRefused() throws {
    let models = try PartModels()
    let pieces = try models.mergedPieces()
    try models.editManifest(of: pieces[1] + "/part.safetensors") {
      $0.replacing(#""path":"model-"#, with: #""path":"../model-"#)
    }
    #expect(failure(models, pieces)?.id == "part.damaged")
  }
}

/// Models with matrices, an embedding, a convolution, vectors and a transposed layer, as folder and in shards.
struct PartModels {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    let (base, tuned) = TestModels.pair(rank: 2, dtype: .bf16)
    let config = #"{"model_type": "gpt2", "_name_or_path": "some/base"}"#
    try TestModels.write(grown(base), to: folder("base"), config: config)
    try TestModels.write(grown(tuned, by: 0.25), to: folder("tuned"), config: config)
    var split = ConvertRequest(input: folder("base"), output: folder("sharded"))
    split.form.maximumShardSize = 1300
    _ = try split.run()
  }

  func grown(_ tensors: [TestTensor], by step: Double = 0) -> [TestTensor] {
    var random = SeededGenerator(5)
    return tensors
      + [
        ("wte.weight", [20, 8]), ("conv.weight", [6, 4, 3, 3]),
        ("h.0.attn.c_attn.weight", [16, 44]),
      ].map { name, shape in
        var values = random.values(shape.reduce(1, *), scale: 0.1)
        for index in values.indices where index % 3 == 0 { values[index] += step }
        return TestTensor(name: TensorName(name), shape: shape, values: values, dtype: .bf16)
      }
  }

  func extraction(to output: String) -> ExtractRequest {
    ExtractRequest(
      base: folder("base"), tuned: folder("tuned"), output: folder(output),
      ranks: RankOptions(rank: 2))
  }

  func merge(_ base: String, to output: String) -> MergeRequest {
    MergeRequest(
      model: folder(base), adapters: [WeightedAdapter(folder("adapter"), weight: 0.5)],
      output: folder(output))
  }

  /// The two pieces of a merge into the sharded base.
  func mergedPieces() throws -> [String] {
    _ = try extraction(to: "adapter").run()
    return try (1...2).map { number in
      var request = merge("sharded", to: "pieces/")
      request.part = try Part(number, of: 2)
      return try #require(try request.run().output)
    }
  }

  /// Every file of an output with its bytes.
  func bytes(in name: String) throws -> [String: Data] {
    let path = folder(name)
    guard let names = FileManager.default.enumerator(atPath: path),
      Places.isFolder(path)
    else { return ["": try Data(contentsOf: URL(fileURLWithPath: path))] }
    var found: [String: Data] = [:]
    for case let name as String in names where !Places.isFolder("\(path)/\(name)") {
      found[name] = try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
    }
    return found
  }

  func inode(_ name: String) throws -> Int? {
    try FileManager.default.attributesOfItem(atPath: folder(name))[.systemFileNumber] as? Int
  }

  /// Writes a piece anew with another manifest, whose checksum is right, and with other sums.
  func editManifest(
    of piece: String,
    sums change: (inout TensorInfo, inout [UInt8]) throws -> Void = { _, _ in },
    _ edit: (String) -> String
  ) throws {
    let file = try TensorFile(opening: piece)
    let text = edit(try #require(file.metadata["lora_surgery.part"]))
    let tensors = try file.tensors.map { tensor in
      var (info, bytes) = (tensor.info, try tensor.bytes())
      if info.name == "sums" { try change(&info, &bytes) }
      return (info, bytes)
    }
    let plan = CheckpointPlan(
      path: piece, kind: .file,
      files: [
        TensorFilePlan(
          relativePath: "", format: .safetensors, tensors: tensors.map(\.0),
          metadata: [
            "lora_surgery.part": text,
            "lora_surgery.part.crc32": String(Array(text.utf8).crc32),
          ])
      ])
    let writer = try CheckpointWriter(
      plan, replacing: true, inputs: [], interruption: Interruption())
    let stage = WriteStage()
    for (index, (_, bytes)) in tensors.enumerated() {
      try writer.write(
        bytes.span.bytes, to: PlannedTensor(file: 0, tensor: index), at: 0, through: stage)
    }
    try stage.flush()
    try writer.commit()
  }
}
