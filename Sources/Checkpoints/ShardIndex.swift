import Tensors

/// The index of a sharded model, checked against the shards that it names.
struct ShardIndex {
  private(set) var files: [(relativePath: String, file: TensorFile)] = []
  private(set) var warnings: [String] = []

  /// Reads the index, opens every shard and checks that each tensor is where the index says.
  init(folder: ModelFolder, name: String) throws(SurgeryError) {
    let path = folder.path(of: name)
    do throws(SurgeryError) {
      let index = try WeightMap(parsing: try JSONValue.bytes(ofFile: path))
      let shards = index.shards
      let order = shards.indices.sorted {
        shards[$0].utf8.lexicographicallyPrecedes(shards[$1].utf8)
      }
      for number in order {
        files.append(
          (
            shards[number],
            try TensorFile(opening: folder.path(of: shards[number]), limits: folder.limits)
          ))
      }
      try check(index.shardOf, shards: shards, order: order)
      try checkTotal(index.metadata)
    } catch {
      throw error.inFile(path)
    }
  }

  private func check(
    _ shardOf: [TensorName: Int], shards: [String], order: [Int]
  ) throws(SurgeryError) {
    var found = 0
    for (number, (shard, file)) in zip(order, files) {
      for tensor in file.tensors {
        guard let listed = shardOf[tensor.name] else {
          throw SurgeryError(
            .data, "index.extra", "the tensor is in a shard, but not in weight_map",
            tensor: tensor.name.text, found: shard)
        }
        guard listed == number else {
          throw SurgeryError(
            .data, "index.wrong-shard", "the tensor is not in the shard that weight_map names",
            tensor: tensor.name.text, expected: shards[listed], found: shard)
        }
        found += 1
      }
    }
    // No file holds a name twice, so the numbers agree only where the names do.
    guard found < shardOf.count else { return }
    let present = Set(files.flatMap { $0.file.tensors.map(\.name) })
    if let missing = shardOf.keys.filter({ !present.contains($0) }).min() {
      throw SurgeryError(
        .data, "index.missing", "the tensor is not in the shard that weight_map names",
        tensor: missing.text, expected: shardOf[missing].map { shards[$0] } ?? "")
    }
  }

  private mutating func checkTotal(_ metadata: JSONValue?) throws(SurgeryError) {
    guard let total = metadata?["total_size"] else { return }
    guard let value = total.double, value >= 0, value.isFinite else {
      throw SurgeryError(
        .data, "index.total", "total_size is not a number of bytes", found: total.text())
    }
    let bytes = files.reduce(0) { sum, entry in
      sum + entry.file.tensors.reduce(0) { $0 + $1.info.byteCount }
    }
    if value != Double(bytes) {
      warnings.append(
        "total_size in the index is \(total.text()), but the shards hold \(bytes, counting: "byte")"
      )
    }
  }
}

/// What an index says, scanned without a value for each of its tensors, of which there may be a hundred thousand.
private struct WeightMap {
  /// The shards, in the order of their first tensors.
  private(set) var shards: [String] = []
  /// The first tensor of each shard.
  private var firstTensors: [String] = []
  /// The number of each tensor's shard.
  private(set) var shardOf: [TensorName: Int] = [:]
  private(set) var metadata: JSONValue?

  init(parsing bytes: [UInt8]) throws(SurgeryError) {
    var scanner = JSONScanner(bytes)
    guard scanner.peek() == UInt8(ascii: "{") else {
      _ = try JSONValue(parsing: bytes)
      throw SurgeryError(.data, "index.form", "the index is not a JSON object")
    }
    var map: WeightMap?
    var metadata: JSONValue?
    try scanner.object { (scanner, key) throws(SurgeryError) in
      if key == "weight_map", scanner.peek() == UInt8(ascii: "{") {
        map = try WeightMap(scanning: &scanner)
      } else {
        let value = try scanner.value()
        if key == "metadata" { metadata = value }
      }
    }
    try scanner.expectEnd()
    guard let map else {
      throw SurgeryError(.data, "index.form", "the index has no weight_map object")
    }
    for (shard, tensor) in zip(map.shards, map.firstTensors) {
      try Self.checkContained(shard, for: tensor)
    }
    self = map
    self.metadata = metadata
  }

  private init(scanning scanner: inout JSONScanner) throws(SurgeryError) {
    // Compared byte by byte, as the file system does.
    var numbers: [TensorName: Int] = [:]
    var found = (shards: [String](), firstTensors: [String](), shardOf: [TensorName: Int]())
    var last = TensorName("")
    var number = 0
    try scanner.object { (scanner, name) throws(SurgeryError) in
      guard scanner.peek() == UInt8(ascii: "\"") else {
        _ = try scanner.value()
        throw SurgeryError(
          .data, "index.form", "the shard in weight_map is not a string", tensor: name)
      }
      let shard = TensorName(try scanner.string())
      if found.shards.isEmpty || shard != last {
        number = numbers[shard] ?? found.shards.count
        last = shard
      }
      if number == found.shards.count {
        numbers[shard] = number
        found.shards.append(shard.text)
        found.firstTensors.append(name)
      }
      found.shardOf[TensorName(name)] = number
    }
    (shards, firstTensors, shardOf) = found
  }

  /// A shard's path is judged as text, not where its link leads: in the Hugging Face cache every shard is
  /// a link to a folder above.
  private static func checkContained(_ shard: String, for tensor: String) throws(SurgeryError) {
    // Bytes, not characters: a slash with a combining accent is one character, and still a separator.
    let bytes = shard.utf8
    let components = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    let isSafe =
      bytes.allSatisfy {
        $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: ":")
      }
      && components.allSatisfy {
        !$0.isEmpty && !$0.elementsEqual(".".utf8) && !$0.elementsEqual("..".utf8)
      }
    guard isSafe else {
      throw SurgeryError(
        .data, "index.path", "weight_map names a shard outside the folder", tensor: tensor,
        expected: "a relative path without '..'", found: shard)
    }
    guard FileFormat(extensionOf: shard) != nil else {
      throw SurgeryError(
        .data, "index.path", "weight_map names a file that is no shard", tensor: tensor,
        expected: "a file of tensors", found: shard)
    }
  }
}
