import Checkpoints
import Tensors

/// Turns an adapter into the section of a compact file's header that describes it, and the list of tensors it refers to.
///
/// Tensors are stored as their files have them, under their names, each once however many modules use it; modules see them
/// through the same views as in memory, so that nothing is moved or rounded on the way.
struct CompactEncoder {
  /// Where the elements of a tensor lie, whatever it is called.
  private struct Identity: Hashable {
    var file: ObjectIdentifier
    var offset: UInt64?
    /// Tells tensors apart that are decoded, and so lie nowhere.
    var name: TensorName?
    var dtype: DType
    var shape: Shape

    init(of tensor: StoredTensor) {
      file = ObjectIdentifier(tensor.source.file)
      offset = tensor.source.plainOffset
      name = offset == nil ? tensor.name : nil
      (dtype, shape) = (tensor.info.dtype, tensor.info.shape)
    }
  }

  private(set) var infos: [TensorInfo] = []
  private(set) var contents: [AdapterPlan.Content] = []
  private(set) var codecs: [CompactHeader.Codec] = []
  private var places: [Identity: Int] = [:]
  private var names = Set<TensorName>()
  private let dtype: DType?

  init(dtype: DType?) { self.dtype = dtype }

  /// Adds a stored tensor, or finds it.
  ///
  /// - Parameter tensor: A tensor of the adapter's file.
  /// - Returns: Its position in the list.
  /// - Throws: `adapter.plan`.
  mutating func place(of tensor: StoredTensor) throws(SurgeryError) -> Int {
    let identity = Identity(of: tensor)
    if let place = places[identity] { return place }
    places[identity] = infos.count
    var builder = AdapterFileBuilder(dtype: dtype)
    let name = uniqueName(tensor.name)
    try builder.add(name.text, full: tensor.renamed(name))
    infos += builder.infos
    contents += builder.contents
    codecs.append(.planes)
    return infos.count - 1
  }

  /// Adds a tensor of whole numbers.
  mutating func add(
    _ name: String, rows: Int, columns: Int,
    _ make: @escaping @Sendable () throws(SurgeryError) -> QuantisedMatrix
  ) throws(SurgeryError) -> Int {
    guard let shape = Shape([rows, columns]),
      let info = TensorInfo(name: uniqueName(TensorName(name)), dtype: .f32, shape: shape)
    else {
      throw SurgeryError(.bug, "adapter.plan", "a planned tensor has no valid shape", tensor: name)
    }
    infos.append(info)
    contents.append(.quantised(make))
    codecs.append(.quantised)
    return infos.count - 1
  }

  private mutating func uniqueName(_ name: TensorName) -> TensorName {
    var candidate = name
    var number = 2
    while !names.insert(candidate).inserted {
      candidate = TensorName("\(name.text)#\(number)")
      number += 1
    }
    return candidate
  }

  /// A view of a tensor: its position, and the steps that lead to the matrix.
  mutating func view(_ factor: Factor) throws(SurgeryError) -> JSONValue {
    view(try place(of: factor.tensor), factor.necessarySteps)
  }

  /// A view of a tensor that is already in the list.
  func view(_ place: Int, _ steps: [Factor.Step]) -> JSONValue {
    var members = [JSONValue.Member("tensor", .integer(place))]
    if !steps.isEmpty { members.append(.init("view", .array(steps.map(\.json)))) }
    return .object(members)
  }

  /// One change with its target and scale.
  mutating func module(
    _ module: ModuleUpdate, update: JSONValue
  ) -> JSONValue {
    var members = [
      JSONValue.Member("name", .string(module.name)),
      .init("target", Self.target(module.target)),
      .init("update", update),
    ]
    if let scale = module.scale { members.append(.init("scale", .double(scale))) }
    if let alpha = module.alpha { members.append(.init("alpha", .double(alpha))) }
    if module.isOptional { members.append(.init("optional", .bool(true))) }
    if let shape = module.enlargedShape {
      members.append(.init("enlarged", .array(shape.map { .integer($0) })))
    }
    if module.repetitions != 1 {
      members.append(.init("repetitions", .integer(module.repetitions)))
    }
    if let extraction = module.extraction {
      members.append(
        .init(
          "extraction",
          .object([
            .init("delta_norm", .double(extraction.deltaNorm)),
            .init("residual_norm", .double(extraction.residualNorm)),
          ])))
    }
    return .object(members)
  }

  /// A tensor stored in full.
  mutating func replacement(_ replacement: Replacement) throws(SurgeryError) -> JSONValue {
    .object([
      .init("reason", .string(replacement.reason)),
      .init("target", Self.target(replacement.target)),
      .init("tensor", .integer(try place(of: replacement.tensor))),
    ])
  }

  private static func target(_ target: TargetReference) -> JSONValue {
    var members = [
      JSONValue.Member("module", .string(target.module)),
      .init("parameter", .string(target.parameter)),
    ]
    if target.spelling == .underscored { members.append(.init("spelling", .string("underscored"))) }
    switch target.component {
    case .denoiser: members.append(.init("component", .string("denoiser")))
    case .textEncoder(let number):
      members.append(.init("component", .string("text-encoder")))
      members.append(.init("encoder", .integer(number)))
    case nil: break
    }
    if !target.alternatives.isEmpty {
      members.append(.init("alternatives", .array(target.alternatives.map { .string($0) })))
    }
    return .object(members)
  }
}

extension Factor {
  /// The steps of the view without reshapes that change nothing or are followed by another, so that a view that went
  /// through a file is the view that went in.
  fileprivate var necessarySteps: [Step] {
    var kept: [Step] = []
    // The shape before the reshape that ends the list, if one does.
    var plain = (rows: tensor.info.shape.rows, columns: tensor.info.shape.columns)
    for step in steps {
      if case .reshape = kept.last, case .reshape = step { kept.removeLast() }
      switch step {
      case .reshape(plain.rows, plain.columns): continue
      case .reshape: break
      case .transpose(let rows, let columns): plain = (columns, rows)
      case .rows(let range, let columns): plain = (range.count, columns)
      case .columns(let range, let rows, _): plain = (rows, range.count)
      case .order(let order, let columns): plain = (order.count, columns)
      }
      kept.append(step)
    }
    return kept
  }
}

extension Factor.Step {
  /// The step as the format writes it: its name, then its numbers.
  fileprivate var json: JSONValue {
    switch self {
    case .reshape(let rows, let columns):
      .array([.string("reshape"), .integer(rows), .integer(columns)])
    case .transpose: .array([.string("transpose")])
    case .rows(let range, _):
      .array([.string("rows"), .integer(range.lowerBound), .integer(range.upperBound)])
    case .columns(let range, _, _):
      .array([.string("columns"), .integer(range.lowerBound), .integer(range.upperBound)])
    case .order(let order, _): .array([.string("order")] + order.map { .integer($0) })
    }
  }
}
