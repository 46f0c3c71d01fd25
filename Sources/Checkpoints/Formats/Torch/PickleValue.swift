import Tensors

/// A value that a pickle describes; nothing in it can be called.
///
/// Compound values are numbers of places in a `PickleHeap`: a pickle may share them, and may even make them contain
/// themselves, which neither leaks here nor nests.
enum PickleValue {
  case none
  case bool(Bool)
  case integer(Int)
  /// An integer beyond 64 bits.
  case wideInteger
  case double(Double)
  case string(Int)
  case tuple(Int)
  case list(Int)
  case dictionary(Int)
  /// The name of an allowed class or function.
  case global(PickleGlobal)
  case storage(Int)
  case tensor(Int)

  /// What kind of value it is, for messages.
  var kind: String {
    switch self {
    case .none: "None"
    case .bool: "a truth value"
    case .integer, .wideInteger: "an integer"
    case .double: "a number"
    case .string: "a string"
    case .tuple: "a tuple"
    case .list: "a list"
    case .dictionary: "a dictionary"
    case .global(let global): global.name
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }
}

/// The compound values of one pickle.
struct PickleHeap {
  /// A dictionary in the making; keys may repeat until it is walked.
  struct Dictionary {
    var isOrdered: Bool
    /// A list of pairs that an OrderedDict was made from, as Python 2 pickled it.
    var base: Int?
    var items: [(key: PickleValue, value: PickleValue)] = []
  }

  /// What a persistent id says of a storage.
  struct Storage {
    var type: TorchType
    var key: String
    var elementCount: Int
    /// Whether it is a part of another storage, as torch before 0.4 wrote it.
    var isView: Bool
  }

  /// The arguments of a call that would rebuild a tensor.
  struct Tensor {
    var storage: Int
    var offset: Int
    /// Places of the tuples.
    var size: Int
    var stride: Int
    /// The element type where the call states it, else that of the storage.
    var type: TorchType?
    /// Whether the call asks for more (conjugation, negation).
    var hasExtraState: Bool
  }

  private(set) var strings: [String] = []
  private var tuplePool: [PickleValue] = []
  private var tuples: [(start: UInt32, count: UInt32)] = [(0, 0)]
  var lists: [[PickleValue]] = []
  var dictionaries: [Dictionary] = []
  private(set) var storages: [Storage] = []
  private(set) var tensors: [Tensor] = []

  mutating func add(_ string: String) -> PickleValue {
    strings.append(string)
    return .string(strings.count - 1)
  }

  /// A tuple; the empty one is always the first.
  mutating func add(tuple values: ArraySlice<PickleValue>) -> PickleValue {
    if values.isEmpty { return .tuple(0) }
    tuples.append((UInt32(tuplePool.count), UInt32(values.count)))
    tuplePool += values
    return .tuple(tuples.count - 1)
  }

  mutating func addList() -> PickleValue {
    lists.append([])
    return .list(lists.count - 1)
  }

  mutating func addDictionary(isOrdered: Bool, base: Int? = nil) -> PickleValue {
    dictionaries.append(Dictionary(isOrdered: isOrdered, base: base))
    return .dictionary(dictionaries.count - 1)
  }

  mutating func add(_ storage: Storage) -> PickleValue {
    storages.append(storage)
    return .storage(storages.count - 1)
  }

  mutating func add(_ tensor: Tensor) -> PickleValue {
    tensors.append(tensor)
    return .tensor(tensors.count - 1)
  }

  func tuple(_ index: Int) -> ArraySlice<PickleValue> {
    let (start, count) = tuples[index]
    return tuplePool[Int(start)..<Int(start) + Int(count)]
  }

  func text(_ value: PickleValue?) -> String? {
    if case .string(let index)? = value { strings[index] } else { nil }
  }
}
