import Checkpoints
import Tensors

/// LoRA on parameters instead of modules: `target_parameters`, mostly stacks of experts
/// (peft:src/peft/tuners/lora/layer.py, `ParamWrapper`).
///
/// Keys have no parameter's name. Where two parameters of a module are adapted, wrappers nest, the first registered being the
/// innermost, which shows as `.base_layer` in the keys.
struct PEFTExperts {
  private let config: PEFTConfig
  private let parameters: [(module: String, name: String)]
  private let rank: @Sendable (String) -> Int

  /// Returns `nil` where the configuration targets no parameters.
  ///
  /// - Parameters:
  ///   - config: The configuration.
  ///   - rank: The rank of a module or parameter by its path.
  /// - Throws: `adapter.config`.
  init?(
    _ config: PEFTConfig?, rank: @escaping @Sendable (String) -> Int
  ) throws(SurgeryError) {
    guard let config else { return nil }
    let names = try config.names("target_parameters")
    if names.isEmpty { return nil }
    self.config = config
    self.rank = rank
    parameters = names.map {
      let (module, parameter) = ModuleUpdate.split($0)
      return parameter.isEmpty ? ("", module) : (module, parameter)
    }
  }

  /// The update of a module, or `nil` where no parameter of it is targeted.
  func updates(
    of module: PEFTModules.Module, scale: (String) -> (scale: Double?, alpha: Double?)
  ) throws(SurgeryError) -> [ModuleUpdate]? {
    let components = module.path.split(separator: ".").map(String.init)
    let depth = components.reversed().prefix { $0 == "base_layer" }.count
    let path = components.dropLast(depth).joined(separator: ".")
    guard let down = module.parts["lora_A"], let up = module.parts["lora_B"] else { return nil }
    let named = parameters.filter { !$0.module.isEmpty && ".\(path)".hasSuffix(".\($0.module)") }
    // PEFT turns targets within experts into bare names of parameters, which say nothing of their module; only stacks have more
    // rows than the rank.
    let bare = parameters.filter { parameter in
      let rank = self.rank("\(path).\(parameter.name)")
      return parameter.module.isEmpty && down.info.shape.rows > rank
        && down.info.shape.rows.isMultiple(of: rank)
    }
    let isPlain = depth == 0 && down.info.shape.rows == rank(path)
    let candidates = Self.inOrder((named.isEmpty && !isPlain ? bare : named).map(\.name))
    guard !candidates.isEmpty else { return nil }
    // The outermost wrapper, without .base_layer, belongs to the last parameter.
    let own = max(0, candidates.count - 1 - depth)
    let ordered = [candidates[own]] + candidates.indices.filter { $0 != own }.map { candidates[$0] }
    let rank = rank("\(path).\(ordered[0])")
    let (scale, alpha) = scale("\(path).\(ordered[0])")
    var target = TargetReference(module: path, parameter: ordered[0])
    target.alternatives = Array(ordered.dropFirst())
    guard down.info.shape.rank == 2, up.info.shape.rank == 2, down.info.shape.rows % rank == 0,
      up.info.shape.columns == down.info.shape.rows
    else {
      throw SurgeryError.adapter(
        "shape", "the factors of a parameter do not fit the rank", key: down.name.text,
        expected: "a multiple of \(rank, counting: "row") (r)", found: "\(down.info.shape)")
    }
    let update: any Update =
      down.info.shape.rows == rank
      ? try LowRank(up: Factor(up), down: Factor(down))
      : try StackedLowRank(
        up: Factor(up), down: Factor(down), rank: rank, square: squareRule)
    return [
      ModuleUpdate(
        name: "\(path).\(ordered[0])", target: target, update: update, scale: scale, alpha: alpha)
    ]
  }

  /// The parameters in the order in which models register them: the configuration's may be another.
  private static func inOrder(_ names: [String]) -> [String] {
    let known = ExpertNames.registrationOrder
    return known.filter { names.contains($0) } + names.filter { !known.contains($0) }
  }

  /// Which way square experts lie: 0.17 and 0.18 always transposed them; from 0.19.1 only modules marked `is_transposed`
  /// are; 0.19.0 had it inverted.
  private var squareRule: StackedLowRank.SquareRule {
    guard let version = config.json["peft_version"]?.text else { return .unknown }
    let numbers = version.split(separator: ".").prefix(3).map {
      Int($0.prefix { $0.isNumber }) ?? 0
    }
    guard numbers.count >= 2 else { return .unknown }
    if numbers[0] == 0, numbers[1] < 19 { return .transposed }
    if numbers[0] == 0, numbers[1] == 19, numbers.count < 3 || numbers[2] == 0 { return .unknown }
    return .asMarked
  }
}
