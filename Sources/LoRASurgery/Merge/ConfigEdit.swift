import Checkpoints
import Tensors

/// What merging changes in a model's `config.json`.
struct ConfigEdit {
  /// A member that is set.
  private struct Change {
    /// The keys of the objects that hold it, from the outermost.
    var path: [String]
    var key: String
    var value: JSONValue

    var name: String { (path + [key]).joined(separator: ".") }
  }

  private var changes: [Change] = []

  /// The changes that the planned tensors ask for; `nil` where there are none.
  init?(
    _ planned: [PlannedRewrite], _ additions: [PlannedRewrite], _ model: Checkpoint,
    _ request: MergeRequest
  ) {
    guard let config = model.config else { return nil }
    let addsHead = additions.contains { rewrite in
      ["lm_head", "embed_out"].contains { rewrite.info.name.text.contains($0) }
    }
    if addsHead, config["tie_word_embeddings"]?.flag == nil {
      set("tie_word_embeddings", .bool(false), at: [])
    }
    for (path, config) in Self.models(in: config) {
      for rewrite in planned {
        guard let base = rewrite.base?.info.shape, rewrite.info.shape.rows != base.rows,
          config["vocab_size"]?.integer == base.rows
        else { continue }
        set("vocab_size", .integer(rewrite.info.shape.rows), at: path)
      }
      if addsHead, config["tie_word_embeddings"]?.flag == true {
        set("tie_word_embeddings", .bool(false), at: path)
      }
      if let dtype = request.dtype, let name = Self.torchName(of: dtype) {
        for key in ["torch_dtype", "dtype"] where config[key]?.text.map({ $0 != name }) ?? false {
          set(key, .string(name), at: path)
        }
      }
    }
    if changes.isEmpty { return nil }
  }

  /// The configurations in one: itself and those of the parts of a model, as `text_config`.
  private static func models(
    in config: JSONValue, at path: [String] = []
  ) -> [(path: [String], config: JSONValue)] {
    let parts = (config.members ?? []).filter { member in
      member.value.members != nil && member.key != "quantization_config"
        && (member.key.hasSuffix("_config") || member.value["model_type"] != nil)
    }
    return [(path, config)] + parts.flatMap { models(in: $0.value, at: path + [$0.key]) }
  }

  private mutating func set(_ key: String, _ value: JSONValue, at path: [String]) {
    if !changes.contains(where: { $0.path == path && $0.key == key }) {
      changes.append(Change(path: path, key: key, value: value))
    }
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
    changes.map { "\($0.name) becomes \($0.value.text())" }.joined(separator: ", ")
  }

  /// The text of the configuration with the changes.
  func text(of config: JSONValue) -> String {
    changes.reduce(config) { $0.setting(($1.path + [$1.key])[...], to: $1.value) }.text(indent: 2)
      + "\n"
  }
}

extension JSONValue {
  /// The object with one member set, which lies in objects of these keys; other members as they were.
  fileprivate func setting(_ path: ArraySlice<String>, to value: JSONValue) -> JSONValue {
    guard let key = path.first else { return value }
    var members = members ?? []
    let index = members.firstIndex { $0.key == key }
    let inner = (index.map { members[$0].value } ?? .object([]))
      .setting(path.dropFirst(), to: value)
    if let index { members[index].value = inner } else { members.append(.init(key, inner)) }
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
