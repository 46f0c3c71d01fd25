import Tensors

/// Calls and persistent ids of torch, taken as data.
extension PickleMachine {
  /// What calling a global of the closed set means; nothing is called.
  mutating func reduce(
    _ function: PickleValue, _ arguments: PickleValue
  ) throws(SurgeryError) -> PickleValue {
    guard case .global(let global) = function else {
      throw refusal("call of \(function.kind)")
    }
    guard case .tuple(let tuple) = arguments else {
      throw failure("pickle.type", "the arguments of \(global.name) are not a tuple")
    }
    let values = Array(heap.tuple(tuple))
    switch global {
    case .orderedDict:
      switch values.first {
      case nil: return heap.addDictionary(isOrdered: true)
      case .list(let list) where values.count == 1:
        return heap.addDictionary(isOrdered: true, base: list)
      default: throw wrongArguments(global)
      }
    case .size:
      guard values.count == 1, case .tuple = values[0] else { throw wrongArguments(global) }
      return values[0]
    case .rebuildParameter:
      guard 2...3 ~= values.count, case .tensor = values[0] else { throw wrongArguments(global) }
      return values[0]
    case .rebuildTensorV2: return try tensor(values, global, hasType: false)
    case .rebuildTensorV3: return try tensor(values, global, hasType: true)
    case .storage, .dtype: throw refusal("call of \(global.name)")
    }
  }

  private func wrongArguments(_ global: PickleGlobal) -> SurgeryError {
    failure("pickle.arguments", "the arguments of \(global.name) are not those that torch writes")
  }

  /// The tensor that a call describes.
  ///
  /// Its arguments are `(storage, offset, size, stride, requires_grad, backward_hooks[, dtype][, metadata])`.
  private mutating func tensor(
    _ values: [PickleValue], _ global: PickleGlobal, hasType: Bool
  ) throws(SurgeryError) -> PickleValue {
    let count = hasType ? 7 : 6
    guard count...count + 1 ~= values.count, case .storage(let storage) = values[0],
      case .integer(let offset) = values[1], case .tuple(let size) = values[2],
      case .tuple(let stride) = values[3]
    else { throw wrongArguments(global) }
    var type: TorchType?
    if hasType {
      guard case .global(.dtype(let stated)) = values[6] else { throw wrongArguments(global) }
      type = stated
    }
    var hasExtraState = false
    switch values.dropFirst(count).first {
    case nil, .some(.none): break
    case .dictionary(let index): hasExtraState = !heap.dictionaries[index].items.isEmpty
    default: throw wrongArguments(global)
    }
    return heap.add(
      PickleHeap.Tensor(
        storage: storage, offset: offset, size: size, stride: stride, type: type,
        hasExtraState: hasExtraState))
  }

  /// The storage that a persistent id names.
  ///
  /// The id is `('storage', class, key, location, element count[, view])`.
  mutating func storage(_ id: PickleValue) throws(SurgeryError) -> PickleValue {
    guard case .tuple(let tuple) = id else {
      throw failure("pickle.storage", "a persistent id is \(id.kind), not a storage's tuple")
    }
    let values = Array(heap.tuple(tuple))
    guard 5...6 ~= values.count, heap.text(values[0]) == "storage",
      case .global(.storage(let type)) = values[1], let key = heap.text(values[2]),
      heap.text(values[3]) != nil, case .integer(let count) = values[4]
    else {
      throw failure("pickle.storage", "a persistent id does not describe a storage")
    }
    guard count >= 0 else {
      throw failure("pickle.storage", "a storage has a negative number of elements: \(count)")
    }
    var isView = false
    if values.count == 6 {
      if case .none = values[5] {} else { isView = true }
    }
    return heap.add(
      PickleHeap.Storage(type: type, key: key, elementCount: count, isView: isView))
  }
}
