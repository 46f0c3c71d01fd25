import Tensors

/// Interprets the pickles that torch writes, without doing anything that they say.
///
/// A pickle is a program for a stack machine (CPython, `Lib/pickletools.py`). This machine knows the opcodes of protocol 2 that
/// state dicts are made of, builds values of a closed set, and treats a call of an allowed function as data. Everything else
/// is refused by name, before anything behind it is read.
struct PickleMachine {
  /// Longer than any name that torch writes.
  private static let maximumName = 1000

  private(set) var input: PickleInput
  var heap = PickleHeap()
  private var stack: [PickleValue] = []
  /// Heights of the stack at the open marks.
  private var marks: [Int] = []
  private var memo: [UInt32: PickleValue] = [:]
  /// Position of the opcode at work.
  private var position = 0
  /// The opcode or version of protocol 4 that was met, where one was.
  private var newProtocol: String?

  init(_ input: PickleInput) { self.input = input }

  /// Runs one pickle up to its STOP.
  ///
  /// - Returns: The value that it leaves; compound parts are in `heap`.
  /// - Throws: The `pickle.…` errors, with the position in the input as offset.
  mutating func run() throws(SurgeryError) -> PickleValue {
    do throws(SurgeryError) {
      while true {
        position = input.position
        let opcode = try input.byte()
        if opcode == UInt8(ascii: ".") { break }
        try execute(opcode)
      }
      let value = try pop()
      guard stack.isEmpty, marks.isEmpty else {
        throw failure("pickle.stack", "values are left over when the pickle stops")
      }
      if let newProtocol {
        throw SurgeryError(
          .unsupported, "pickle.protocol",
          "the pickle was written with protocol 4 or 5 (\(newProtocol)), which is not read",
          hint: "save it with torch.save and its default protocol")
      }
      return value
    } catch {
      var error = error
      if error.kind != .io { error.offset = error.offset ?? UInt64(position) }
      throw error
    }
  }

  func failure(_ id: String, _ what: String) -> SurgeryError { SurgeryError(.data, id, what) }

  func refusal(_ what: String) -> SurgeryError {
    failure(
      "pickle.not-allowed", "the pickle's \(what) is not allowed; nothing was executed")
  }

  // MARK: Stack

  private mutating func push(_ value: PickleValue) { stack.append(value) }

  private mutating func pop() throws(SurgeryError) -> PickleValue {
    guard stack.count > marks.last ?? 0, let value = stack.popLast() else {
      throw failure("pickle.stack", "the pickle takes a value from an empty stack")
    }
    return value
  }

  private func top() throws(SurgeryError) -> PickleValue {
    guard stack.count > marks.last ?? 0, let value = stack.last else {
      throw failure("pickle.stack", "the pickle looks at an empty stack")
    }
    return value
  }

  /// The values above the last mark, which are taken away with it.
  private mutating func popMark() throws(SurgeryError) -> ArraySlice<PickleValue> {
    guard let mark = marks.popLast() else {
      throw failure("pickle.stack", "the pickle closes a mark that it did not open")
    }
    // A slice would share the stack, and removing from it would copy all of it.
    let values = Array(stack[mark...])
    stack.removeLast(values.count)
    return values[...]
  }

  // MARK: Opcodes

  private mutating func execute(_ opcode: UInt8) throws(SurgeryError) {
    switch opcode {
    case UInt8(ascii: "N"): push(.none)
    case 0x88: push(.bool(true))
    case 0x89: push(.bool(false))
    case UInt8(ascii: "K"): push(.integer(Int(try input.byte())))
    case UInt8(ascii: "M"): push(.integer(Int(try input.integer(2))))
    case UInt8(ascii: "J"):
      push(.integer(Int(Int32(bitPattern: UInt32(try input.integer(4))))))
    case 0x8A: push(try long(Int(try input.byte())))
    case 0x8B: push(try long(Int(try input.integer(4))))
    case UInt8(ascii: "G"):
      push(.double(Double(bitPattern: try input.integer(8).byteSwapped)))
    case UInt8(ascii: "X"), UInt8(ascii: "T"): push(try string(try input.integer(4)))
    case UInt8(ascii: "U"): push(try string(try input.integer(1)))
    case UInt8(ascii: ")"): push(.tuple(0))
    case UInt8(ascii: "]"): push(heap.addList())
    case UInt8(ascii: "}"): push(heap.addDictionary(isOrdered: false))
    case UInt8(ascii: "("): marks.append(stack.count)
    case UInt8(ascii: "t"): push(heap.add(tuple: try popMark()))
    case 0x85...0x87: try tuple(Int(opcode - 0x84))
    case UInt8(ascii: "0"): _ = try pop()
    case UInt8(ascii: "1"): _ = try popMark()
    case UInt8(ascii: "2"): push(try top())
    case UInt8(ascii: "q"): memo[UInt32(try input.byte())] = try top()
    case UInt8(ascii: "r"): memo[UInt32(try input.integer(4))] = try top()
    case UInt8(ascii: "h"): push(try remembered(UInt32(try input.byte())))
    case UInt8(ascii: "j"): push(try remembered(UInt32(try input.integer(4))))
    default: try executeCompound(opcode)
    }
  }

  private mutating func executeCompound(_ opcode: UInt8) throws(SurgeryError) {
    switch opcode {
    case 0x80:
      let version = try input.byte()
      if version >= 4 { newProtocol = "PROTO \(version)" }
    case UInt8(ascii: "a"):
      let value = try pop()
      try append([value])
    case UInt8(ascii: "e"): try append(try popMark())
    case UInt8(ascii: "s"):
      let value = try pop()
      let key = try pop()
      try setItems([key, value])
    case UInt8(ascii: "u"): try setItems(try popMark())
    case UInt8(ascii: "c"): try global()
    case UInt8(ascii: "R"):
      let arguments = try pop()
      let function = try pop()
      push(try reduce(function, arguments))
    case 0x81:
      let arguments = try pop()
      let type = try pop()
      guard case (.global(.orderedDict), .tuple(0)) = (type, arguments) else {
        throw refusal("NEWOBJ of \(type.kind)")
      }
      push(heap.addDictionary(isOrdered: true))
    case UInt8(ascii: "b"): try build()
    case UInt8(ascii: "Q"): push(try storage(try pop()))
    default: try executeNew(opcode)
    }
  }

  /// Opcodes of protocol 4, followed only so far as a refusal needs to name what hides behind them.
  private mutating func executeNew(_ opcode: UInt8) throws(SurgeryError) {
    switch opcode {
    case 0x8C: push(try string(try input.integer(1)))
    case 0x8D: push(try string(try input.integer(8)))
    case 0x94: memo[UInt32(truncatingIfNeeded: memo.count)] = try top()
    case 0x95:
      let length = try input.integer(8)
      guard length <= UInt64(input.rest) else {
        throw failure("pickle.truncated", "a frame of the pickle ends beyond it")
      }
    case 0x93:
      let name = try pop()
      let module = try pop()
      guard let name = heap.text(name), let module = heap.text(module) else {
        throw failure("pickle.type", "the name of a global is not a string")
      }
      push(.global(try allowed(module, name)))
    case 0x8E...0x92, 0x96...0x98: break
    default:
      guard let name = Self.refusedOpcodes[opcode] else {
        throw failure("pickle.opcode", "no such pickle opcode: \(opcode)")
      }
      throw refusal("opcode \(name)")
    }
    newProtocol = newProtocol ?? "opcode \(opcode)"
    if 0x8E...0x92 ~= opcode || 0x96...0x98 ~= opcode {
      throw SurgeryError(
        .unsupported, "pickle.protocol",
        "the pickle uses opcode \(opcode) of protocol 4 or 5, which is not read",
        hint: "save it with torch.save and its default protocol")
    }
  }

  private static let refusedOpcodes: [UInt8: String] = [
    UInt8(ascii: "P"): "PERSID", UInt8(ascii: "i"): "INST", UInt8(ascii: "o"): "OBJ",
    0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", UInt8(ascii: "I"): "INT", UInt8(ascii: "L"): "LONG",
    UInt8(ascii: "F"): "FLOAT", UInt8(ascii: "S"): "STRING", UInt8(ascii: "V"): "UNICODE",
    UInt8(ascii: "g"): "GET", UInt8(ascii: "p"): "PUT", UInt8(ascii: "l"): "LIST",
    UInt8(ascii: "d"): "DICT", UInt8(ascii: "B"): "BINBYTES", UInt8(ascii: "C"): "SHORT_BINBYTES",
  ]

  // MARK: Values

  private mutating func long(_ count: Int) throws(SurgeryError) -> PickleValue {
    let bytes = try input.take(count)
    guard count <= 8 else { return .wideInteger }
    let isNegative = (bytes.last ?? 0) >= 0x80
    let value = bytes.reversed().reduce(isNegative ? UInt64.max : 0) { $0 << 8 | UInt64($1) }
    return .integer(Int(Int64(bitPattern: value)))
  }

  private mutating func string(_ count: UInt64) throws(SurgeryError) -> PickleValue {
    let bytes = try input.take(Int(clamping: count))
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw failure("pickle.utf8", "a string of the pickle is not UTF-8")
    }
    return heap.add(text)
  }

  private mutating func tuple(_ count: Int) throws(SurgeryError) {
    guard stack.count - (marks.last ?? 0) >= count else {
      throw failure("pickle.stack", "the pickle makes a tuple of more values than there are")
    }
    let value = heap.add(tuple: stack.suffix(count))
    stack.removeLast(count)
    push(value)
  }

  private func remembered(_ index: UInt32) throws(SurgeryError) -> PickleValue {
    guard let value = memo[index] else {
      throw failure("pickle.memo", "the pickle refers to memo \(index), which is not set")
    }
    return value
  }

  private mutating func append(_ values: ArraySlice<PickleValue>) throws(SurgeryError) {
    guard case .list(let list) = try top() else {
      throw failure("pickle.type", "the pickle appends to \(try top().kind)")
    }
    heap.lists[list] += values
  }

  private mutating func setItems(_ values: ArraySlice<PickleValue>) throws(SurgeryError) {
    guard case .dictionary(let dictionary) = try top() else {
      throw failure("pickle.type", "the pickle sets an item of \(try top().kind)")
    }
    guard values.count % 2 == 0 else {
      throw failure("pickle.stack", "the pickle sets a key without a value")
    }
    for index in stride(from: values.startIndex, to: values.endIndex, by: 2) {
      switch values[index] {
      case .list, .dictionary, .tensor, .storage:
        throw failure("pickle.key", "a dictionary's key is \(values[index].kind)")
      default: break
      }
      heap.dictionaries[dictionary].items.append((values[index], values[index + 1]))
    }
  }

  // MARK: Globals and calls

  private mutating func global() throws(SurgeryError) {
    let module = try input.line(limit: Self.maximumName)
    let name = try input.line(limit: Self.maximumName)
    push(
      .global(
        try allowed(String(decoding: module, as: UTF8.self), String(decoding: name, as: UTF8.self)))
    )
  }

  private func allowed(_ module: String, _ name: String) throws(SurgeryError) -> PickleGlobal {
    guard let global = PickleGlobal(module: module, name: name) else {
      throw refusal("global \(DisplayText.escaped(module)).\(DisplayText.escaped(name))")
    }
    return global
  }

  /// The attributes of an OrderedDict, which torch uses for `_metadata`: checked and left out.
  private mutating func build() throws(SurgeryError) {
    let state = try pop()
    guard case .dictionary(let target) = try top(), heap.dictionaries[target].isOrdered else {
      throw refusal("BUILD of \(try top().kind)")
    }
    guard case .dictionary = state else {
      throw failure("pickle.type", "the attributes of an OrderedDict are \(state.kind)")
    }
  }
}
