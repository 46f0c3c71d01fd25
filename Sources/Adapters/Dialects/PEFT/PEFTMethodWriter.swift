import Checkpoints
import LinearAlgebra
import Tensors

/// Writes PEFT adapters of types other than LORA, the inverse of `PEFTMethodBuilder`: one type for all modules.
struct PEFTMethodWriter {
  /// The types that are written.
  enum Method: String {
    case loha = "LOHA"
    case lokr = "LOKR"
    case ia3 = "IA3"
    case oft = "OFT"

    /// The type that an update is of; `nil` where it is none of these.
    private init?(_ update: any Update) {
      switch update {
      case is Hadamard: self = .loha
      case is Kronecker: self = .lokr
      case is DiagonalScale: self = .ia3
      case let rotation as Orthogonal where rotation.isPEFT: self = .oft
      default: return nil
      }
    }

    /// The type of an adapter; `nil` where a change of it is of none of these, or it has no changes.
    init?(of adapter: Adapter) {
      guard let first = adapter.modules.first, let method = Self(first.update),
        adapter.modules.allSatisfy({ Self($0.update) != nil })
      else { return nil }
      self = method
    }

    func holds(_ update: any Update) -> Bool { Self(update) == self }
  }

  let method: Method
  var file: AdapterFileBuilder
  /// Rank and alpha by module, in order.
  var modules: [PEFTRanks.Module] = []

  init(_ method: Method, dtype: DType?) {
    self.method = method
    file = AdapterFileBuilder(dtype: dtype)
  }

  /// Plans the output.
  ///
  /// - Throws: `adapter.inexpressible` for what the type cannot hold.
  func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    for module in adapter.modules where !method.holds(module.update) {
      throw inexpressible("\(module.update.summary) beside those of other kinds", module.name)
    }
    if adapter.fanInFanOut == true, method == .loha || method == .lokr {
      throw inexpressible("modules stored in x out")
    }
    if let replacement = adapter.replacements.first {
      throw inexpressible(
        "a tensor stored in full (\(replacement.reason))", replacement.target.tensorName)
    }
    var writer = self
    let own: [JSONValue.Member] =
      switch method {
      case .loha: try writer.addLoHa(adapter)
      case .lokr: try writer.addLoKr(adapter)
      case .ia3: try writer.addIA3(adapter)
      case .oft: try writer.addOFT(adapter)
      }
    let config: [JSONValue.Member] =
      [
        .init("peft_type", .string(method.rawValue)), .init("task_type", .null),
        .init(
          "base_model_name_or_path", adapter.provenance.baseName.map { .string($0) } ?? .null),
        .init("inference_mode", .bool(true)),
        .init("target_modules", .array(writer.modules.map { .string($0.path) })),
        .init("modules_to_save", .null),
      ] + own
    return PEFTWriter.layout(
      writer.file, config: .object(config), to: path, options: options)
  }

  /// The module of a change, which must be one of a weight.
  func path(of module: ModuleUpdate) throws(SurgeryError) -> String {
    guard module.target.parameter == "weight" else {
      throw inexpressible("a change of \(module.target.parameter)", module.name)
    }
    return try module.dottedModule(for: .peft)
  }

  /// The beginning of a module's keys.
  func key(_ path: String) -> String { "base_model.model.\(path)" }

  func inexpressible(_ what: String, _ module: String? = nil) -> SurgeryError {
    .inexpressible(
      "\(what) in an adapter of type \(method.rawValue)", in: .peft, module,
      hint: "--as lora factors all changes anew")
  }

  /// Numbers that multiply outputs or inputs; outputs with the bias (peft:src/peft/tuners/ia3/layer.py).
  private mutating func addIA3(_ adapter: Adapter) throws(SurgeryError) -> [JSONValue.Member] {
    let biases = Set(
      adapter.modules.filter { $0.target.parameter == "bias" }.map(\.target.module))
    var feedforward: [String] = []
    for module in adapter.modules where module.target.parameter != "bias" {
      guard let diagonal = module.update as? DiagonalScale else { continue }
      let path = try path(of: module)
      let scale = try module.knownScale()
      let values = try diagonal.values.matrix(of: Double.self).elements.map {
        diagonal.isOffset ? 1 + scale * $0 : 1 + scale * ($0 - 1)
      }
      modules.append(.init(path: path, rank: 0, alpha: 0))
      // Vectors for kernels have as many dimensions as the kernel.
      let ones = [Int](
        repeating: 1, count: max(0, diagonal.values.tensor.info.shape.rank - 2))
      var shape = [1, values.count] + ones
      switch diagonal.axis {
      case .outputs:
        if ones.isEmpty { shape = [values.count, 1] }
        // Whether there is a bias, only the base would tell.
        guard biases.contains(path) || !diagonal.isOffset else {
          throw inexpressible("multiplied outputs whose bias stays as it is", module.name)
        }
      case .inputs: feedforward.append(path)
      }
      try file.add(
        "\(key(path)).ia3_l", values: values, shape: shape,
        dtype: file.dtype ?? diagonal.values.dtype)
    }
    for module in adapter.modules where module.target.parameter == "bias" {
      guard modules.contains(where: { $0.path == module.target.module }) else {
        throw inexpressible("a change of a bias alone", module.name)
      }
    }
    return [
      .init("feedforward_modules", .array(feedforward.map { .string($0) })),
      .init("fan_in_fan_out", .bool(adapter.fanInFanOut ?? false)),
      .init("init_ia3_weights", .bool(true)),
    ]
  }

  /// Rotations of the inputs by blocks (peft:src/peft/tuners/oft/layer.py).
  private mutating func addOFT(_ adapter: Adapter) throws(SurgeryError) -> [JSONValue.Member] {
    var settings: Orthogonal.PEFTSettings?
    for module in adapter.modules {
      guard let rotation = module.update as? Orthogonal, let own = rotation.peftSettings else {
        continue
      }
      guard settings == nil || settings == own, try module.knownScale() == 1 else {
        throw inexpressible("rotations of different settings", module.name)
      }
      settings = own
      let path = try path(of: module)
      modules.append(.init(path: path, rank: 0, alpha: 0))
      try file.add("\(key(path)).oft_R.weight", rotation.blocks)
    }
    guard let settings else { return [] }
    return settings.members + [
      .init("fan_in_fan_out", .bool(adapter.fanInFanOut ?? false)),
      .init("module_dropout", .double(0)), .init("bias", .string("none")),
      .init("init_weights", .bool(true)),
    ]
  }
}

extension Orthogonal {
  /// What PEFT's configuration says of rotations, the same for all modules.
  struct PEFTSettings: Equatable {
    var blockSize: Int
    /// Whether one block of parameters serves all blocks.
    var isShared: Bool
    /// The limit of the norm of all blocks.
    var epsilon: Double?
    /// Terms of the Neumann series; `nil` for the exact map.
    var terms: Int?

    var members: [JSONValue.Member] {
      var members: [JSONValue.Member] = [
        .init("r", .integer(0)), .init("oft_block_size", .integer(blockSize)),
        .init("block_share", .bool(isShared)), .init("coft", .bool(epsilon != nil)),
        .init("use_cayley_neumann", .bool(terms != nil)),
      ]
      if let epsilon { members.append(.init("eps", .double(epsilon))) }
      if let terms { members.append(.init("num_cayley_neumann_terms", .integer(terms))) }
      return members
    }
  }

  /// Whether the rotation is one as PEFT makes them.
  var isPEFT: Bool { peftSettings != nil }

  /// What PEFT's configuration says of the rotation; `nil` where it is none of PEFT's.
  var peftSettings: PEFTSettings? {
    guard side == .inputs, storage == .triangle, rescale == nil else { return nil }
    var settings = PEFTSettings(blockSize: blockSize, isShared: blocks.rows == 1)
    switch map {
    case .neumann(let terms): settings.terms = terms
    case .minusPlus: break
    case .plusMinus: return nil
    }
    switch limit {
    case .none: break
    case .eachBlock(let limit):
      // Undoes the division of the reader, whose rounding would make modules differ.
      settings.epsilon = (limit * Double(blocks.rows).squareRoot() * 1e12).rounded() / 1e12
    case .allBlocks: return nil
    }
    return settings
  }
}
