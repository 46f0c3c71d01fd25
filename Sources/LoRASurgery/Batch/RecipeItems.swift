import Checkpoints
import Tensors
import YAML

/// What one repetition of a job is for, and the words that stand for it in fields.
struct RecipeItem {
  let path: String
  private let values: [String: String]

  /// The words that fields may have in braces.
  static let words = ["name", "parent", "path", "stem"]

  /// An item of which it is known whether it is a folder: a folder's name has no extension to leave out.
  init(_ path: String, isFolder: Bool) {
    self.path = path
    let name = Places.name(in: path)
    let parent = Places.folder(of: path)
    values = [
      "path": path, "name": name.whole, "stem": isFolder ? name.whole : name.stem,
      "parent": parent.isEmpty ? "." : parent,
    ]
  }

  /// A field with the words in braces replaced, in all texts of its value.
  ///
  /// Other braces stay, as in regular expressions and `--pair '{}.A,…'`; `{{` before a word stands for one brace.
  static func fill(
    _ field: Recipe.Field, with item: RecipeItem?
  ) throws(SurgeryError) -> Recipe.Field {
    var field = field
    field.value = try fill(field.value, with: item)
    return field
  }

  private static func fill(
    _ node: YAMLNode, with item: RecipeItem?
  ) throws(SurgeryError) -> YAMLNode {
    var node = node
    switch node.content {
    case .scalar(let text, let isPlain):
      node.content = .scalar(try fill(text, with: item, at: node.mark), isPlain: isPlain)
    case .sequence(let elements):
      node.content = .sequence(
        try elements.map { element throws(SurgeryError) in try fill(element, with: item) })
    case .mapping(let entries):
      node.content = .mapping(
        try entries.map { entry throws(SurgeryError) in
          var entry = entry
          entry.value = try fill(entry.value, with: item)
          return entry
        })
    }
    return node
  }

  private static func fill(
    _ text: String, with item: RecipeItem?, at mark: YAMLNode.Mark
  ) throws(SurgeryError) -> String {
    guard text.utf8.contains(UInt8(ascii: "{")) else { return text }
    var filled = ""
    var rest = text[...]
    while let open = rest.firstIndex(of: "{") {
      filled += rest[..<open]
      rest = rest[rest.index(after: open)...]
      if rest.first == "{", let word = word(after: rest.dropFirst()) {
        filled += "{\(word)}"
        rest = rest.dropFirst(word.count + 2)
        if rest.first == "}" { rest.removeFirst() }
      } else if let word = word(after: rest) {
        guard let item else {
          throw .recipe(
            "template", "{\(word)} stands for an item, and there is no for-each", at: mark,
            hint: "add for-each, or write {{\(word)}} for the text itself")
        }
        guard let value = item.values[word] else {
          throw .unknownWord(word, "no such word in braces:", known: words, at: mark)
        }
        filled += value
        rest = rest.dropFirst(word.count + 1)
      } else {
        filled += "{"
      }
    }
    return filled + rest
  }

  /// The word that a closing brace follows, if it could be meant as one of ours.
  private static func word(after text: Substring) -> String? {
    guard let close = text.firstIndex(of: "}") else { return nil }
    let word = text[..<close]
    let isWord =
      word.count > 1
      && word.utf8.allSatisfy { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) }
    return isWord ? String(word) : nil
  }
}

extension Recipe.Step {
  /// The items of `for-each`, or one repetition without an item.
  ///
  /// - Parameters:
  ///   - folder: Where relative patterns start.
  ///   - planned: Outputs of the jobs before, which need not exist yet.
  /// - Returns: One entry for each job that the step becomes.
  /// - Throws: `recipe.items` or `recipe.no-match`.
  func repetitions(
    in folder: String, planned: [String]
  ) throws(SurgeryError) -> [RecipeItem?] {
    guard let items else { return [nil] }
    var paths: [String] = []
    for node in items.elements ?? [items] {
      guard let text = node.text, !text.isEmpty else {
        throw .recipe(
          "items", "for-each takes a pattern or a list of paths", at: node.mark)
      }
      guard Glob.isPattern(text) else {
        paths.append(text)
        continue
      }
      let glob = Glob(text)
      var found = Set(glob.paths(in: folder))
      found.formUnion(planned.filter(glob.matches))
      guard !found.isEmpty || allowsNoItems else {
        throw .recipe(
          "no-match", "for-each matches nothing", at: node.mark, found: text,
          hint: "correct the pattern, or add allow-empty: true")
      }
      paths += found.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }
    guard !paths.isEmpty || allowsNoItems else {
      throw .recipe(
        "no-match", "for-each has no items", at: items.mark, hint: "or add allow-empty: true")
    }
    // An output without an extension that says a format is a folder.
    let folders = Set(planned.filter { FileFormat(extensionOf: $0) == nil })
    return paths.map { path in
      RecipeItem(
        path,
        isFolder: folders.contains(path) || Places.isFolder(Places.path(path, from: folder)))
    }
  }
}
