import Checkpoints
import Tensors

/// What merging changes in a model's `config.json`.
struct ConfigEdit {
  private var values: [(key: String, value: JSONValue)] = []

  /// The changes that the planned tensors ask for; `nil` where there are none.
  init?(
    _ planned: [PlannedRewrite], _ additions: [PlannedRewrite], _ model: Checkpoint,
    _ request: MergeRequest
  ) {
    guard let config = model.config else { return nil }
    for rewrite in planned {
      guard let base = rewrite.base?.info.shape, rewrite.info.shape.rows != base.rows,
        config["vocab_size"]?.integer == base.rows
      else { continue }
      set("vocab_size", .integer(rewrite.info.shape.rows))
    }
    let addsHead = additions.contains { rewrite in
      ["lm_head", "embed_out"].contains { rewrite.info.name.text.contains($0) }
    }
    if addsHead, config["tie_word_embeddings"]?.flag != false {
      set("tie_word_embeddings", .bool(false))
    }
    if let dtype = request.dtype, let name = Self.torchName(of: dtype) {
      for key in ["torch_dtype", "dtype"] where config[key]?.text.map({ $0 != name }) ?? false {
        set(key, .string(name))
      }
    }
    if values.isEmpty { return nil }
  }

  private mutating func set(_ key: String, _ value: JSONValue) {
    if !values.contains(where: { $0.key == key }) { values.append((key, value)) }
  }

  private static func torchName(of dtype: DType) -> String? {
    switch dtype {
    case .f64: "float64"
    case .f32: "float32"
    case .f16: "float16"
    case .bf16: "bfloat16"
    case .f8e4m3: "float8_e4m3fn"
    case .f8e5m2: "float8_e5m2"
    default: nil
    }
  }

  /// The changes in words.
  var summary: String {
    values.map { "\($0.key) becomes \($0.value.text())" }.joined(separator: ", ")
  }

  /// The text of the configuration with the changes.
  func text(of config: JSONValue) -> String { applied(to: config).text(indent: 2) + "\n" }

  /// The configuration with the changes, other keys as they were.
  private func applied(to config: JSONValue) -> JSONValue {
    var members = config.members ?? []
    for (key, value) in values {
      if let index = members.firstIndex(where: { $0.key == key }) {
        members[index].value = value
      } else {
        members.append(.init(key, value))
      }
    }
    return .object(members)
  }
}

extension CheckpointPlan {
  /// Writes a changed `config.json` in place of the copied one.
  ///
  /// - Returns: The text as it was.
  /// - Throws: What reading throws.
  mutating func apply(_ edit: ConfigEdit, of model: Checkpoint) throws(SurgeryError) -> String? {
    guard let config = model.config,
      let companion = model.companions.first(where: { $0.relativePath == "config.json" })
    else { return nil }
    let file = try InputFile(companion.path)
    let text = String(decoding: try file.bytes(at: 0, count: Int(file.size)), as: UTF8.self)
    replaceConfig(with: edit.text(of: config))
    return text
  }

  /// Writes this text as `config.json`.
  mutating func replaceConfig(with text: String) {
    extras.removeAll { $0.relativePath == "config.json" }
    extras.append(Extra(relativePath: "config.json", content: .bytes(Array(text.utf8))))
  }
}
