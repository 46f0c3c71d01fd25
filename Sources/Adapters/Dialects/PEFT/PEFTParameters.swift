import Tensors

/// Which changes of an adapter PEFT takes as changes of parameters, not of modules, and how their wrappers nest: the inverse of
/// `PEFTExperts` (peft:src/peft/tuners/lora/layer.py, `ParamWrapper`).
struct PEFTParameters {
  /// A parameter as PEFT names it.
  struct Place {
    /// The module that the keys name, inside the wrappers of the parameters registered later.
    var module: String
    /// The parameter's full name, which the configuration targets.
    var path: String
  }

  /// Modules of routers, which classes of transformers keep as parameters; only beside experts in a stack.
  private static let routers = ["gate", "router"]

  /// The adapted parameters of each module, in the order in which models register them: the last one's wrapper is the outermost.
  private var names: [String: [String]] = [:]

  /// Finds the parameters among the changes.
  ///
  /// - Parameter modules: The changes, under the names of the base.
  /// - Throws: `adapter.inexpressible` where the order of several parameters is not known.
  init(_ modules: [ModuleUpdate]) throws(SurgeryError) {
    var blocks = Set<String>()
    for module in modules where module.update is StackedLowRank {
      let target = Self.target(of: module)
      names[target.module, default: []].append(target.parameter)
      blocks.insert(ModuleUpdate.split(target.module).module)
    }
    for module in modules where module.update is LowRank {
      let target = module.target
      let (block, leaf) = ModuleUpdate.split(target.module)
      let isRouter = Self.routers.contains(leaf) && blocks.contains(block)
      let isParameter = target.parameter != "weight" && !target.parameter.isEmpty
      // What is adapted inside a wrapped module would be lost when PEFT merges.
      if isRouter
        || isParameter
          && !modules.contains(where: { $0.target.module.hasPrefix("\(target.module).") })
      {
        names[target.module, default: []].append(target.parameter)
      }
    }
    for (module, parameters) in names.sorted(by: { $0.key < $1.key }) where parameters.count > 1 {
      let known = ExpertNames.registrationOrder.filter { parameters.contains($0) }
      guard known.count == parameters.count else {
        throw SurgeryError.inexpressible(
          "changes of \(parameters.sorted().listed()), whose order only the model's code tells",
          in: .peft, module, hint: "--include chooses one of them")
      }
      names[module] = known
    }
  }

  /// Whether nothing but modules is changed.
  var isEmpty: Bool { names.isEmpty }

  /// Where a change goes; `nil` where it is one of a module.
  func place(of module: ModuleUpdate) -> Place? {
    let target = Self.target(of: module)
    guard let own = names[target.module], let index = own.firstIndex(of: target.parameter) else {
      return nil
    }
    return Place(
      module: Self.wrapped(target.module, times: own.count - 1 - index),
      path: "\(target.module).\(target.parameter)")
  }

  /// The module of tensors that lie beside adapted parameters, inside all wrappers; `nil` where there are none.
  func wrappedModule(_ module: String) -> String? {
    names[module].map { Self.wrapped(module, times: $0.count) }
  }

  private static func wrapped(_ module: String, times: Int) -> String {
    module + String(repeating: ".base_layer", count: times)
  }

  /// The parameter that a change concerns, under its name in memory where checkpoints have another for a stack.
  private static func target(of module: ModuleUpdate) -> (module: String, parameter: String) {
    let target = module.target
    guard module.update is StackedLowRank, target.parameter == "weight",
      let renamed = ExpertNames.parameter(ofStack: target.module)
    else { return (target.module, target.parameter) }
    return ModuleUpdate.split(renamed)
  }
}
