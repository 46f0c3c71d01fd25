import Tensors

/// The tensors of nested containers under dotted names, with what else was there.
struct TorchFlattening {
  /// Deeper than any module tree; the walk goes down by calling itself.
  private static let maximumDepth = 100

  /// A container that the walk is inside of.
  private enum Place: Hashable {
    case list(Int)
    case dictionary(Int)
  }

  private let heap: PickleHeap
  /// Values that may still be visited.
  ///
  /// A tree has fewer than its pickle has bytes, unless parts are shared again and again.
  private var nodesLeft: Int
  /// Bytes that names and texts may still take, for the same reason.
  private var textLeft: Int
  private var path: Set<Place> = []
  private var names = Set<TensorName>()

  private(set) var tensors: [(name: TensorName, tensor: Int)] = []
  private(set) var metadata: [String: String] = [:]
  private(set) var warnings: [String] = []
  /// Values that are neither tensors nor metadata.
  private var leftOut: [String] = []

  /// Flattens what a pickle left.
  ///
  /// A dictionary under the top-level key `state_dict` or `model` is the checkpoint, where it holds tensors; its key is noted
  /// in the metadata as `torch.wrapper`, and tensors beside it (an optimizer's) are left out with a warning.
  ///
  /// - Parameters:
  ///   - value: The pickle's value.
  ///   - heap: Its parts.
  ///   - pickleSize: Bytes of the pickle.
  ///   - soleName: The name of a tensor that is the whole checkpoint.
  /// - Throws: `pickle.cycle`, `pickle.depth`, `pickle.nodes`, `torch.duplicate`, `torch.key`, `torch.no-tensors`.
  init(
    _ value: PickleValue, heap: PickleHeap, pickleSize: Int, soleName: String
  ) throws(SurgeryError) {
    self.heap = heap
    nodesLeft = max(10_000, pickleSize)
    textLeft = (4 << 20) + 16 * pickleSize
    switch value {
    case .tensor: try visit(value, name: soleName, depth: 0)
    case .dictionary(let index):
      if !(try unwrap(index)) {
        try visit(value, name: nil, depth: 0)
      }
      try checkNotBare(isEmpty: heap.dictionaries[index].items.isEmpty && metadata.isEmpty)
    case .list, .tuple:
      try visit(value, name: nil, depth: 0)
      try checkNotBare(isEmpty: false)
    default:
      throw SurgeryError(
        .data, "torch.no-tensors", "the checkpoint holds no tensors: it is \(value.kind)")
    }
    if !leftOut.isEmpty {
      warnings.append(
        "left out since no tensor: \(leftOut.count, counting: "value") (\(Self.sample(leftOut)))")
    }
  }

  private static func sample(_ names: [String]) -> String {
    names.map { DisplayText.escaped($0, limit: 60) }.listed(limit: 3)
  }

  private func checkNotBare(isEmpty: Bool) throws(SurgeryError) {
    guard !tensors.isEmpty || isEmpty else {
      throw SurgeryError(.data, "torch.no-tensors", "the checkpoint holds no tensors")
    }
  }

  // MARK: Wrappers

  /// Takes the tensors of a wrapped checkpoint; false where there is no wrapper.
  private mutating func unwrap(_ top: Int) throws(SurgeryError) -> Bool {
    let items = heap.dictionaries[top].items
    for wrapper in ["state_dict", "model"] {
      let matches = items.filter { heap.text($0.key) == wrapper }
      guard matches.count == 1, case .dictionary = matches[0].value else { continue }
      var inner = self
      inner.path.insert(.dictionary(top))
      try inner.visit(matches[0].value, name: nil, depth: 1)
      guard !inner.tensors.isEmpty else { continue }
      inner.path.remove(.dictionary(top))
      self = inner
      metadata["torch.wrapper"] = wrapper
      try visitBeside(wrapper, top)
      return true
    }
    return false
  }

  /// Walks what lies beside a wrapper: its texts and numbers are metadata, tensors are left out with a warning.
  private mutating func visitBeside(_ wrapper: String, _ top: Int) throws(SurgeryError) {
    var aside = self
    aside.names = []
    aside.tensors = []
    aside.metadata = [:]
    try aside.visitItems(of: top, name: nil, depth: 1, skipping: wrapper)
    nodesLeft = aside.nodesLeft
    textLeft = aside.textLeft
    for case (.string(let key), _) in heap.dictionaries[top].items {
      let key = heap.strings[key]
      if let text = aside.metadata[key] { metadata[key] = text }
    }
    if !aside.tensors.isEmpty {
      warnings.append(
        """
        the tensors are those under "\(wrapper)"; left out: \(aside.tensors.count, counting: "other") \
        (\(Self.sample(aside.tensors.prefix(4).map(\.name.text))))
        """)
    }
  }

  // MARK: Walk

  private mutating func visit(
    _ value: PickleValue, name: String?, depth: Int
  ) throws(SurgeryError) {
    nodesLeft -= 1
    guard nodesLeft >= 0 else {
      throw SurgeryError(
        .data, "pickle.nodes", "the pickle repeats its parts too often",
        found: "more values than bytes")
    }
    guard depth <= Self.maximumDepth else {
      throw SurgeryError(
        .data, "pickle.depth", "the pickle nests deeper than \(Self.maximumDepth) levels")
    }
    switch value {
    case .tensor(let tensor): try add(tensor, name ?? "")
    case .dictionary(let index):
      try enter(.dictionary(index)) { (walk) throws(SurgeryError) in
        try walk.visitItems(of: index, name: name, depth: depth + 1)
      }
    case .list(let index):
      try enter(.list(index)) { (walk) throws(SurgeryError) in
        try walk.visitElements(walk.heap.lists[index][...], name: name, depth: depth + 1)
      }
    case .tuple(let index): try visitElements(heap.tuple(index), name: name, depth: depth + 1)
    case .string, .integer, .double, .bool: try note(value, name ?? "")
    case .none: break
    case .wideInteger, .storage, .global(.dtype): leftOut.append(name ?? "")
    case .global(let global):
      throw SurgeryError(
        .data, "torch.value", "a value of the checkpoint is a bare class or function",
        tensor: name, found: global.name)
    }
  }

  private mutating func enter(
    _ place: Place, _ body: (inout Self) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    guard path.insert(place).inserted else {
      throw SurgeryError(.data, "pickle.cycle", "a container of the pickle contains itself")
    }
    try body(&self)
    path.remove(place)
  }

  private mutating func visitItems(
    of index: Int, name: String?, depth: Int, skipping skipped: String? = nil
  ) throws(SurgeryError) {
    var keys = Set<TensorName>()
    for (key, value) in try pairs(of: index) {
      let text: String
      switch key {
      case .string(let index): text = heap.strings[index]
      case .integer(let number): text = String(number)
      default:
        throw SurgeryError(
          .unsupported, "torch.key", "a dictionary's key is neither a string nor an integer",
          tensor: name, found: key.kind)
      }
      guard keys.insert(TensorName(text)).inserted else {
        throw SurgeryError(
          .data, "pickle.duplicate", "a duplicate key in a dictionary of the pickle",
          found: "\"\(DisplayText.escaped(text))\"")
      }
      if text == skipped { continue }
      try visit(value, name: try joined(name, text), depth: depth)
    }
  }

  /// The items of a dictionary, those that it was made from first.
  private func pairs(
    of index: Int
  ) throws(SurgeryError) -> [(key: PickleValue, value: PickleValue)] {
    let dictionary = heap.dictionaries[index]
    guard let base = dictionary.base else { return dictionary.items }
    var pairs: [(key: PickleValue, value: PickleValue)] = []
    for element in heap.lists[base] {
      let pair: ArraySlice<PickleValue>
      switch element {
      case .list(let index): pair = heap.lists[index][...]
      case .tuple(let index): pair = heap.tuple(index)
      default: pair = []
      }
      guard pair.count == 2, let key = pair.first, let value = pair.last else {
        throw SurgeryError(
          .data, "pickle.type", "an OrderedDict is made from something else than pairs")
      }
      pairs.append((key, value))
    }
    return pairs + dictionary.items
  }

  private mutating func visitElements(
    _ elements: ArraySlice<PickleValue>, name: String?, depth: Int
  ) throws(SurgeryError) {
    for (position, element) in elements.enumerated() {
      switch element {
      // Numbers in lists are settings and states, which would flood the metadata.
      case .string, .integer, .double, .bool, .none:
        nodesLeft -= 1
        if position == 0 { leftOut.append(name ?? "") }
      default: try visit(element, name: try joined(name, String(position)), depth: depth)
      }
    }
  }

  private mutating func joined(_ name: String?, _ key: String) throws(SurgeryError) -> String {
    guard let name else { return key }
    try spend(name.utf8.count + key.utf8.count + 1)
    return "\(name).\(key)"
  }

  private mutating func spend(_ bytes: Int) throws(SurgeryError) {
    textLeft -= bytes
    guard textLeft >= 0 else {
      throw SurgeryError(
        .data, "pickle.names", "the names in the pickle add up to far more than its size")
    }
  }

  private mutating func add(_ tensor: Int, _ name: String) throws(SurgeryError) {
    guard names.insert(TensorName(name)).inserted else {
      throw SurgeryError(
        .data, "torch.duplicate", "a duplicate: two tensors have the same dotted name", tensor: name
      )
    }
    tensors.append((TensorName(name), tensor))
  }

  private mutating func note(_ value: PickleValue, _ name: String) throws(SurgeryError) {
    switch value {
    case .string(let index): metadata[name] = heap.strings[index]
    case .integer(let number): metadata[name] = String(number)
    case .double(let number): metadata[name] = "\(number)"
    case .bool(let flag): metadata[name] = flag ? "true" : "false"
    default: return
    }
    try spend(name.utf8.count + (metadata[name]?.utf8.count ?? 0))
  }
}
