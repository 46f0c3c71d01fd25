import Checkpoints
import Tensors

/// The fields of an `adapter_config.json` that change arithmetic, checked as strictly as PEFT should.
///
/// PEFT itself takes `"false"` for true, a NaN alpha for a number and ranks of the tensors for those of the file; each is
/// refused here with the field's name (peft:src/peft/tuners/lora/config.py for names and defaults).
struct PEFTConfig: Sendable {
  let path: String
  let json: JSONValue
  let type: String
  private(set) var warnings: [String] = []

  init(_ json: JSONValue, path: String, type given: String? = nil) throws(SurgeryError) {
    self.path = path
    self.json = json
    guard json.members != nil else {
      throw SurgeryError.adapter(
        "config", "adapter_config.json is no JSON object", file: path)
    }
    guard let type = json["peft_type"]?.text ?? given else {
      throw SurgeryError.adapter(
        "config", "adapter_config.json has no peft_type", file: path, expected: "peft_type",
        hint: "--from peft reads it as PEFT LoRA")
    }
    self.type = type
  }

  /// The error for a field of a wrong type or value.
  func wrong(_ field: String, expected: String, _ value: JSONValue) -> SurgeryError {
    .adapter(
      "config", "adapter_config.json: field \(field) is wrong", file: path, expected: expected,
      found: String(value.text().prefix(60)))
  }

  /// A flag; absent or null is `default`.
  func flag(_ field: String, default value: Bool = false) throws(SurgeryError) -> Bool {
    guard let found = json[field], !found.isNull else { return value }
    guard let flag = found.flag else { throw wrong(field, expected: "true or false", found) }
    return flag
  }

  /// A text; absent or null is `nil`.
  func text(_ field: String) throws(SurgeryError) -> String? {
    guard let found = json[field], !found.isNull else { return nil }
    guard let text = found.text else { throw wrong(field, expected: "a string", found) }
    return text
  }

  /// A positive integer; absent is `default`.
  func positive(_ field: String, default value: Int) throws(SurgeryError) -> Int {
    guard let found = json[field] else { return value }
    return try positive(found, field)
  }

  private func positive(_ value: JSONValue, _ field: String) throws(SurgeryError) -> Int {
    // Ranks beyond 2^31 would only serve to overflow a product.
    guard let number = value.integer, number > 0, number < 1 << 31 else {
      throw wrong(field, expected: "a positive integer", value)
    }
    return number
  }

  /// A finite number; absent is `default`.
  func number(_ field: String, default value: Double) throws(SurgeryError) -> Double {
    guard let found = json[field] else { return value }
    return try number(found, field)
  }

  private func number(_ value: JSONValue, _ field: String) throws(SurgeryError) -> Double {
    guard let number = value.double, number.isFinite else {
      throw SurgeryError.adapter(
        field.contains("alpha") ? "bad-alpha" : "config",
        "adapter_config.json: field \(field) is wrong", file: path, expected: "a finite number",
        found: String(value.text().prefix(60)))
    }
    return number
  }

  /// Strings under a field that is a list, a string or absent.
  func names(_ field: String) throws(SurgeryError) -> [String] {
    guard let found = json[field], !found.isNull else { return [] }
    if let text = found.text { return [text] }
    guard let elements = found.elements else {
      throw wrong(field, expected: "a list of strings", found)
    }
    var names: [String] = []
    for element in elements {
      guard let name = element.text else { throw wrong(field, expected: "strings", element) }
      names.append(name)
    }
    return names
  }

  /// `rank_pattern` or another map from patterns to positive integers.
  func ranks(_ field: String) throws(SurgeryError) -> PatternMap<Int> {
    var entries: [(String, Int)] = []
    for member in try members(field) {
      entries.append((member.key, try positive(member.value, "\(field).\(member.key)")))
    }
    return try PatternMap(entries, field: field, path: path)
  }

  /// `alpha_pattern` or another map from patterns to numbers.
  func alphas(_ field: String) throws(SurgeryError) -> PatternMap<Double> {
    var entries: [(String, Double)] = []
    for member in try members(field) {
      entries.append((member.key, try number(member.value, "\(field).\(member.key)")))
    }
    return try PatternMap(entries, field: field, path: path)
  }

  private func members(_ field: String) throws(SurgeryError) -> [JSONValue.Member] {
    guard let found = json[field], !found.isNull else { return [] }
    guard let members = found.members else { throw wrong(field, expected: "an object", found) }
    return members
  }

  /// Fields that turn LoRA into something else, with what they turn it into.
  private static let variants: [(field: String, what: String)] = [
    ("use_qalora", "QALoRA, which pools its input"),
    ("alora_invocation_tokens", "activated LoRA, which depends on the tokens"),
    ("arrow_config", "Arrow, which routes by input"),
    ("layer_replication", "a model with replicated layers, which must be expanded first"),
    ("kasa_config", "KaSA, which truncates the base"),
  ]

  /// Fields with these endings or beginnings that nobody here knows start a new variant.
  private static let harmless: Set<String> = [
    "megatron_config", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "monteclora_config", "velora_config", "runtime_config", "use_rslora", "use_dora",
    "use_cache", "use_effective_conv2d", "use_bdlora",
  ]

  /// Refuses what makes the arithmetic another than this program knows.
  func refuseVariants() throws(SurgeryError) {
    for (field, what) in Self.variants {
      if let value = json[field], !value.isNull, value.flag != false {
        throw SurgeryError.unsupportedAdapter(
          "adapter_config.json: field \(field) makes this \(what)", file: path,
          found: String(value.text().prefix(60)))
      }
    }
    for member in json.members ?? [] where !member.value.isNull && member.value.flag != false {
      let startsVariant = member.key.hasPrefix("use_") || member.key.hasSuffix("_config")
      if startsVariant, !Self.harmless.contains(member.key) {
        throw SurgeryError.unsupportedAdapter(
          "adapter_config.json: field \(member.key) starts a variant that this program does not know",
          file: path, found: String(member.value.text().prefix(60)))
      }
    }
  }

  /// The initialisation that changed the base before training; `nil` where there was none, or the adapter was converted when
  /// it was saved.
  var baseChange: String? {
    let name = (json["init_lora_weights"] ?? json["init_weights"])?.text?.lowercased()
    guard let name,
      ["pissa", "olora", "corda", "lora_ga", "loftq"].contains(where: { name.hasPrefix($0) })
    else { return nil }
    return name
  }

  /// Refuses initialisations that change the base.
  func refuseModifiedBase() throws(SurgeryError) {
    guard let baseChange else { return }
    throw SurgeryError.adapter(
      "modified-base", "the adapter was trained on a base that \(baseChange) had changed",
      file: path, expected: "a converted adapter (init_lora_weights true)",
      found: "init_lora_weights \"\(baseChange)\"",
      hint: "--residual-base names the model it was trained on; or save it with "
        + "path_initial_model_for_weight_conversion")
  }
}

/// Values by patterns of module paths; the first pattern that matches wins, as in PEFT.
struct PatternMap<Value: Sendable>: Sendable {
  private struct Entry: Sendable {
    let pattern: Pattern
    let value: Value
  }

  /// Patterns beyond this many are looked up by their text, where they are plain paths; an expression among so many would
  /// have to be tried on every module.
  private static var maximumExpressions: Int { 1024 }

  private var entries: [Entry] = []
  private var plain: [String: (order: Int, text: String, value: Value)] = [:]
  var isEmpty: Bool { entries.isEmpty && plain.isEmpty }

  init(_ map: [(key: String, value: Value)], field: String, path: String) throws(SurgeryError) {
    if map.count <= Self.maximumExpressions {
      for (key, value) in map {
        do throws(SurgeryError) {
          entries.append(Entry(pattern: try Pattern(key), value: value))
        } catch {
          var error = error.inFile(path)
          error.what = "adapter_config.json: field \(field): " + error.what
          throw error
        }
      }
      return
    }
    for (order, (key, value)) in map.enumerated() {
      guard key.unicodeScalars.allSatisfy({ Self.isPlain($0) }) else {
        throw SurgeryError.unsupportedAdapter(
          "adapter_config.json: field \(field) has regular expressions among more than "
            + "\(Self.maximumExpressions) keys", file: path, found: String(key.prefix(60)))
      }
      if plain[key] == nil { plain[key] = (order, key, value) }
    }
  }

  private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
    scalar == "." || scalar == "_" || scalar == "-" || scalar.properties.isAlphabetic
      || ("0"..."9").contains(scalar)
  }

  /// The value for a module's path, with the pattern that gave it.
  subscript(path: String) -> (pattern: String, value: Value)? {
    if let entry = entries.first(where: { $0.pattern.matchesPathEnd(of: path) }) {
      return (entry.pattern.text, entry.value)
    }
    if plain.isEmpty { return nil }
    var best = plain[path]
    for index in path.indices where path[index] == "." {
      if let found = plain[String(path[path.index(after: index)...])] {
        if best.map({ found.order < $0.order }) ?? true { best = found }
      }
    }
    return best.map { ($0.text, $0.value) }
  }
}
