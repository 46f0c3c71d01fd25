import CYAML
public import Tensors

extension YAMLNode {
  /// The most nodes of a document, aliases expanded; beyond it a few lines could stand for more than memory holds.
  public static let mostNodes = 2_000_000
  /// The deepest nesting that is read.
  public static let deepest = 64

  /// Parses text that holds one YAML 1.1 or JSON document.
  ///
  /// Aliases share what they stand for, so memory grows with the text. Tags other than the standard ones, keys that are
  /// no scalars, and further documents are refused.
  ///
  /// - Parameter text: UTF-8, or UTF-16 with a byte order mark.
  /// - Throws: `yaml.syntax`, `yaml.duplicate`, `yaml.alias`, `yaml.aliases`, `yaml.depth`, `yaml.tag` or `yaml.documents`,
  ///   each with line and column.
  public init(parsing text: [UInt8]) throws(SurgeryError) {
    let outcome = unsafe text.withUnsafeBufferPointer { buffer -> Result<YAMLNode, SurgeryError> in
      guard let handle = unsafe lora_yaml_open(buffer.baseAddress, buffer.count) else {
        return .failure(SurgeryError(.io, "yaml.memory", "no memory to read YAML"))
      }
      defer { unsafe lora_yaml_close(handle) }
      var reader = unsafe YAMLReader(handle: handle)
      return Result { () throws(SurgeryError) in try unsafe reader.document() }
    }
    self = try outcome.get()
  }
}

/// Builds nodes from libyaml's events.
@unsafe private struct YAMLReader {
  let handle: UnsafeMutablePointer<lora_yaml>
  private var anchors: [String: YAMLNode] = [:]
  private var total = 0

  init(handle: UnsafeMutablePointer<lora_yaml>) { unsafe self.handle = handle }

  private var kind: yaml_event_type_t { unsafe handle.pointee.event.type }

  private var mark: YAMLNode.Mark {
    let mark = unsafe handle.pointee.event.start_mark
    return YAMLNode.Mark(line: Int(mark.line) + 1, column: Int(mark.column) + 1)
  }

  mutating func document() throws(SurgeryError) -> YAMLNode {
    try unsafe advance()
    try unsafe advance()
    guard unsafe kind == YAML_DOCUMENT_START_EVENT else {
      return YAMLNode(
        content: .scalar("", isPlain: true), mark: YAMLNode.Mark(line: 1, column: 1), weight: 1)
    }
    try unsafe advance()
    let root = try unsafe node(depth: 0)
    try unsafe advance()
    try unsafe advance()
    guard unsafe kind == YAML_STREAM_END_EVENT else {
      throw unsafe .yaml("documents", "a second document", at: mark)
    }
    return root
  }

  /// Reads the node that begins with the current event.
  private mutating func node(depth: Int) throws(SurgeryError) -> YAMLNode {
    let start = unsafe mark
    guard depth < YAMLNode.deepest else {
      throw .yaml("depth", "nested more than \(YAMLNode.deepest) levels deep", at: start)
    }
    let anchor = unsafe lora_yaml_anchor(handle).map { unsafe String(cString: $0) }
    if unsafe kind == YAML_ALIAS_EVENT {
      guard let anchor, let known = unsafe anchors[anchor] else {
        throw .yaml("alias", "the alias stands for nothing before it", at: start, found: anchor)
      }
      try unsafe count(known.weight, at: start)
      return known
    }
    if let tag = unsafe lora_yaml_tag(handle).map({ unsafe String(cString: $0) }),
      tag != "!", !tag.hasPrefix("tag:yaml.org,2002:")
    {
      throw .yaml("tag", "a tag that means nothing here", at: start, found: tag)
    }
    try unsafe count(1, at: start)
    let before = unsafe total - 1
    let content = try unsafe content(at: start, depth: depth)
    let node = unsafe YAMLNode(content: content, mark: start, weight: total - before)
    if let anchor { unsafe anchors[anchor] = node }
    return node
  }

  private mutating func content(
    at start: YAMLNode.Mark, depth: Int
  ) throws(SurgeryError) -> YAMLNode.Content {
    switch unsafe kind {
    case YAML_SCALAR_EVENT:
      let bytes = unsafe UnsafeBufferPointer(
        start: lora_yaml_text(handle), count: lora_yaml_text_size(handle))
      return unsafe .scalar(
        String(decoding: bytes, as: UTF8.self), isPlain: lora_yaml_is_plain(handle) != 0)
    case YAML_SEQUENCE_START_EVENT:
      var elements: [YAMLNode] = []
      try unsafe advance()
      while unsafe kind != YAML_SEQUENCE_END_EVENT {
        elements.append(try unsafe node(depth: depth + 1))
        try unsafe advance()
      }
      return .sequence(elements)
    case YAML_MAPPING_START_EVENT: return .mapping(try unsafe entries(depth: depth))
    default: throw .yaml("syntax", "no value here", at: start)
    }
  }

  private mutating func entries(depth: Int) throws(SurgeryError) -> [YAMLNode.Entry] {
    var entries: [YAMLNode.Entry] = []
    var known: [String: YAMLNode.Mark] = [:]
    try unsafe advance()
    while unsafe kind != YAML_MAPPING_END_EVENT {
      let place = unsafe mark
      let key = try unsafe node(depth: depth + 1)
      guard case .scalar(let name, _) = key.content else {
        throw .yaml("key", "a key that is no text", at: place)
      }
      if let first = known.updateValue(place, forKey: name) {
        throw .yaml(
          "duplicate", "the key \"\(DisplayText.escaped(name))\" stands here again", at: place,
          expected: "once, as in line \(first.line)")
      }
      try unsafe advance()
      entries.append(
        YAMLNode.Entry(key: name, mark: place, value: try unsafe node(depth: depth + 1)))
      try unsafe advance()
    }
    return entries
  }

  private mutating func count(_ nodes: Int, at place: YAMLNode.Mark) throws(SurgeryError) {
    unsafe total += nodes
    guard unsafe total <= YAMLNode.mostNodes else {
      throw .yaml(
        "aliases", "the document stands for too many values once aliases are expanded", at: place,
        expected: "at most \(YAMLNode.mostNodes)")
    }
  }

  private func advance() throws(SurgeryError) {
    if unsafe lora_yaml_next(handle) != 0 { return }
    let parser = unsafe handle.pointee.parser
    let problem =
      unsafe parser.problem.map { unsafe String(cString: $0) } ?? "malformed"
    let context = unsafe parser.context.map { unsafe String(cString: $0) + ": " } ?? ""
    if unsafe parser.error == YAML_READER_ERROR {
      throw unsafe SurgeryError(
        .data, "yaml.text", "no YAML: \(problem)", offset: UInt64(parser.problem_offset))
    }
    let place = unsafe parser.problem_mark
    throw .yaml(
      "syntax", "no YAML: \(context)\(problem)",
      at: YAMLNode.Mark(line: Int(place.line) + 1, column: Int(place.column) + 1))
  }
}

extension SurgeryError {
  /// An error at a place of a YAML text.
  fileprivate static func yaml(
    _ id: String, _ what: String, at mark: YAMLNode.Mark, expected: String? = nil,
    found: String? = nil
  ) -> Self {
    Self(.data, "yaml.\(id)", "\(mark): \(what)", expected: expected, found: found)
  }
}
