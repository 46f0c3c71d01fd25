import Checkpoints
import Tensors

/// Reads the section of a compact file's header that describes an adapter.
///
/// Nothing in it is believed: every number that sizes a matrix or a loop is compared with the tensors, of which the container
/// has checked the sizes, before it is used.
struct CompactDecoder {
  let tensors: [StoredTensor]

  /// Numbers in the header beyond this serve only to overflow a product.
  static let largest = 1 << 31

  /// Elements of a view that repeats rows: a gigabyte of single precision, more than experts share in any model known.
  private static let maximumRepeated = 1 << 28

  /// The error for a member that is missing or wrong.
  func wrong(_ what: String, expected: String? = nil, found: String? = nil) -> SurgeryError {
    SurgeryError(
      .data, "lra.adapter", "the description of the adapter is wrong: \(what)",
      expected: expected, found: found)
  }

  /// The error for a word that a newer version may know.
  func unknown(_ what: String, _ found: String) -> SurgeryError {
    SurgeryError(
      .unsupported, "lra.unknown", "the description of the adapter has \(what) that is not known",
      found: found, hint: "use a newer lora-surgery")
  }

  func member(_ json: JSONValue, _ key: String) throws(SurgeryError) -> JSONValue {
    guard let value = json[key] else { throw wrong("a member is missing", expected: key) }
    return value
  }

  func text(_ json: JSONValue, _ key: String) throws(SurgeryError) -> String {
    guard let text = try member(json, key).text else {
      throw wrong("a member is no string", expected: key)
    }
    return text
  }

  func flag(_ json: JSONValue, _ key: String) throws(SurgeryError) -> Bool {
    guard let value = json[key] else { return false }
    guard let flag = value.flag else { throw wrong("a member is no flag", expected: key) }
    return flag
  }

  /// A number from 0, or from `minimum`, to 2^31.
  func integer(_ value: JSONValue?, _ key: String, from minimum: Int = 0) throws(SurgeryError)
    -> Int
  {
    guard let number = value?.integer, number >= minimum, number < Self.largest else {
      throw wrong("a number is out of range", expected: "\(key) from \(minimum)")
    }
    return number
  }

  func number(_ json: JSONValue, _ key: String) throws(SurgeryError) -> Double? {
    guard let value = json[key] else { return nil }
    guard let number = value.double, number.isFinite else {
      throw wrong("a member is no finite number", expected: key)
    }
    return number
  }

  func list(_ json: JSONValue, _ key: String) throws(SurgeryError) -> [JSONValue] {
    guard let elements = try member(json, key).elements else {
      throw wrong("a member is no list", expected: key)
    }
    return elements
  }

  func tensor(_ value: JSONValue?) throws(SurgeryError) -> StoredTensor {
    let index = try integer(value, "tensor")
    guard index < tensors.count else {
      throw wrong(
        "there is no such tensor", expected: "below \(tensors.count)", found: "\(index)")
    }
    return tensors[index]
  }

  /// A view, where the member is there.
  func viewIfPresent(_ json: JSONValue, _ key: String) throws(SurgeryError) -> Factor? {
    json[key] == nil ? nil : try view(json, key)
  }

  /// A view of a tensor.
  func view(_ json: JSONValue, _ key: String) throws(SurgeryError) -> Factor {
    let value = try member(json, key)
    var factor = Factor(try tensor(value["tensor"]))
    // A tensor without elements may claim any dimension.
    guard factor.rows < Self.largest, factor.columns < Self.largest else {
      throw wrong("a matrix is too large", found: "\(factor.rows) x \(factor.columns)")
    }
    guard let steps = value["view"] else { return factor }
    guard let steps = steps.elements, steps.count <= 16 else {
      throw wrong("a view is no list of at most 16 steps", expected: key)
    }
    for step in steps {
      let parts = step.elements ?? []
      guard let name = parts.first?.text else { throw wrong("a step of a view has no name") }
      if name == "transpose" {
        factor = factor.transposed()
        continue
      }
      if name == "order" {
        var order: [Int] = []
        for part in parts.dropFirst() {
          let row = try integer(part, name)
          guard row < factor.rows else {
            throw wrong("a step of a view leaves its matrix", found: "order \(row)")
          }
          order.append(row)
        }
        // An order that repeats rows, as for a factor that experts share, could make a view of any size.
        let (elements, overflow) = order.count.multipliedReportingOverflow(by: factor.columns)
        guard order.count <= factor.rows || (!overflow && elements <= Self.maximumRepeated) else {
          throw wrong("an order has more rows than its matrix", expected: "\(factor.rows)")
        }
        factor = factor.rows(in: order)
        continue
      }
      let first = try integer(parts.dropFirst().first, name)
      let second = try integer(parts.dropFirst(2).first, name)
      func check(_ condition: Bool) throws(SurgeryError) {
        guard condition else {
          throw wrong(
            "a step of a view leaves its matrix", expected: "\(factor.rows) x \(factor.columns)",
            found: "\(name) \(first), \(second)")
        }
      }
      switch name {
      case "reshape":
        let (count, overflow) = first.multipliedReportingOverflow(by: second)
        try check(!overflow && count == factor.count)
        factor = factor.reshaped(rows: first, columns: second)
      case "rows":
        try check(first <= second && second <= factor.rows)
        factor = factor.rows(first..<second)
      case "columns":
        try check(first <= second && second <= factor.columns)
        factor = factor.columns(first..<second)
      default: throw unknown("a step of a view", name)
      }
    }
    return factor
  }

  /// One change.
  func module(_ json: JSONValue) throws(SurgeryError) -> ModuleUpdate {
    let name = try text(json, "name")
    do throws(SurgeryError) {
      var module = ModuleUpdate(
        name: name, target: try target(member(json, "target")),
        update: try update(member(json, "update")), scale: try number(json, "scale"),
        alpha: try number(json, "alpha"))
      guard module.update.rows < Self.largest, module.update.columns < Self.largest else {
        throw wrong("an update is larger than any tensor")
      }
      module.isOptional = try flag(json, "optional")
      if json["enlarged"] != nil {
        var shape: [Int] = []
        for size in try list(json, "enlarged").prefix(8) {
          shape.append(try integer(size, "enlarged"))
        }
        module.enlargedShape = shape
      }
      if let repetitions = json["repetitions"] {
        // A library that applies a change more than a few times is not to be expected.
        module.repetitions = try integer(repetitions, "repetitions", from: 1)
        guard module.repetitions <= 16 else {
          throw wrong("a change is repeated too often", expected: "at most 16")
        }
      }
      if let facts = json["extraction"] { module.extraction = try extraction(facts) }
      return module
    } catch {
      throw error.inTensor(TensorName(name))
    }
  }

  private func extraction(_ json: JSONValue) throws(SurgeryError) -> ExtractionFacts {
    guard let delta = try number(json, "delta_norm"), let rest = try number(json, "residual_norm"),
      delta >= 0, rest >= 0
    else { throw wrong("the extraction lacks a norm", expected: "delta_norm, residual_norm") }
    return ExtractionFacts(deltaNorm: delta, residualNorm: rest)
  }

  /// A tensor stored in full.
  func replacement(_ json: JSONValue) throws(SurgeryError) -> Replacement {
    Replacement(
      target: try target(member(json, "target")), tensor: try tensor(json["tensor"]),
      reason: try text(json, "reason"))
  }

  private func target(_ json: JSONValue) throws(SurgeryError) -> TargetReference {
    var target = TargetReference(
      module: try text(json, "module"), parameter: try text(json, "parameter"))
    if json["spelling"] != nil {
      let spelling = try text(json, "spelling")
      guard spelling == "underscored" else { throw unknown("a spelling", spelling) }
      target.spelling = .underscored
    }
    if json["component"] != nil {
      switch try text(json, "component") {
      case "denoiser": target.component = .denoiser
      case "text-encoder":
        target.component = .textEncoder(try integer(json["encoder"], "encoder"))
      case let other: throw unknown("a component", other)
      }
    }
    if json["alternatives"] != nil {
      for alternative in try list(json, "alternatives") {
        guard let name = alternative.text else { throw wrong("an alternative is no string") }
        target.alternatives.append(name)
      }
    }
    return target
  }
}
