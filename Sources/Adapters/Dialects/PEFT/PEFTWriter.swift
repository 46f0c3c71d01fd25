import Checkpoints
import Tensors

/// Writes PEFT: a folder with `adapter_config.json`, or one file with the configuration in its metadata.
///
/// The rank and alpha that most modules have become `r` and `lora_alpha`; the others go to `rank_pattern` and `alpha_pattern`
/// under the modules' full names (peft:src/peft/utils/other.py, `get_pattern_key`).
struct PEFTWriter: DialectWriter {
  static let dialect = Dialect.peft

  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    let adapter = try oneComponent(adapter)
    if let method = PEFTMethodWriter.Method(of: adapter) {
      return try PEFTMethodWriter(method, dtype: options.dtype)
        .plan(adapter, to: path, options: options)
    }
    var writer = PEFTWriter(
      dtype: options.dtype, parameters: try PEFTParameters(adapter.modules))
    // A change of a bias is written beside that of its weight, whatever the order in the base.
    for module in adapter.modules where module.target.parameter != "bias" {
      try writer.add(module)
    }
    for module in adapter.modules where module.target.parameter == "bias" {
      try writer.add(module)
    }
    for replacement in adapter.replacements { try writer.add(replacement) }
    guard writer.decomposedCount == 0 || writer.decomposedCount == writer.modules.count else {
      throw SurgeryError.inexpressible("modules with and without magnitudes", in: .peft)
    }
    if !writer.parameters.isEmpty { try writer.checkParameters(adapter) }
    return layout(
      writer.file, config: try writer.config(of: adapter), to: path, options: options)
  }

  /// The files of an adapter: its tensors, and the configuration beside them or in the metadata of a single file.
  static func layout(
    _ tensors: AdapterFileBuilder, config: JSONValue, to path: String,
    options: AdapterWritingOptions
  ) -> AdapterPlan {
    var metadata = ["format": "pt"]
    if FileFormat(extensionOf: path) != nil { metadata["lora_adapter_metadata"] = config.text() }
    return AdapterPlan(
      tensors, to: path, inFolderAs: "adapter_model", options, metadata: metadata,
      extras: [
        .init(
          relativePath: "adapter_config.json",
          content: .bytes(Array((config.text(indent: 2) + "\n").utf8)))
      ])
  }

  /// PEFT adapts one model, so the names lose the prefix of the pipeline's component that they all share.
  private static func oneComponent(_ adapter: Adapter) throws(SurgeryError) -> Adapter {
    var prefixes = Set<String>()
    for target in adapter.modules.map(\.target) + adapter.replacements.map(\.target) {
      prefixes.insert(ComponentPrefix.split(target.module).prefix)
    }
    if prefixes == [""] { return adapter }
    guard prefixes.count <= 1 else {
      throw SurgeryError.inexpressible(
        "changes of several components (\(prefixes.sorted().listed()))", in: .peft,
        hint: "--to diffusers or kohya can hold them, --include chooses one component")
    }
    var result = adapter
    for index in result.modules.indices {
      result.modules[index].target.module = String(
        ComponentPrefix.split(result.modules[index].target.module).rest)
    }
    for index in result.replacements.indices {
      result.replacements[index].target.module = String(
        ComponentPrefix.split(result.replacements[index].target.module).rest)
    }
    return result
  }

  private var file: AdapterFileBuilder
  /// Rank and alpha by module, in order.
  private var modules: [PEFTRanks.Module] = []
  private var places: [String: Int] = [:]
  /// Parameters stored in full, by module.
  private var full: [String: Set<String>] = [:]
  /// Modules that the source saved as such.
  private var savedModules: Set<String> = []
  private var hasBias = false
  private var usesReplacedBias = false
  private var decomposedCount = 0
  private var adapted: Set<String> = []
  private let parameters: PEFTParameters
  /// Which of the modules are parameters.
  private var targetParameters: [String] = []

  private init(dtype: DType?, parameters: PEFTParameters) {
    file = AdapterFileBuilder(dtype: dtype)
    self.parameters = parameters
  }

  /// Refuses what PEFT has not beside changes of parameters (peft:src/peft/tuners/lora/layer.py, `ParamWrapper.__init__`).
  private func checkParameters(_ adapter: Adapter) throws(SurgeryError) {
    let other =
      decomposedCount > 0
      ? "magnitudes"
      : hasBias
        ? "changes of biases"
        : adapter.fanInFanOut == true
          ? "modules stored in x out" : nil
    guard let other else { return }
    throw SurgeryError.inexpressible(
      "\(other) beside changes of parameters (\(targetParameters.listed(limit: 2)))", in: .peft,
      hint: "--include and --exclude make an adapter of each")
  }

  private mutating func add(_ module: ModuleUpdate) throws(SurgeryError) {
    let path = try module.dottedModule(for: .peft)
    let scale = try module.knownScale()
    if let difference = module.update as? FullDifference, module.target.parameter == "bias",
      let main = places[path].map({ modules[$0] })
    {
      // PEFT multiplies the bias by the module's scale (peft:src/peft/tuners/lora/layer.py).
      let own = main.alpha / Double(main.rank)
      try file.add(
        "base_model.model.\(path).lora_B.bias", difference.difference,
        shape: [difference.rows], scale: own == 0 ? 1 : scale / own)
      hasBias = true
      return
    }
    var changed = module.update
    if let decomposed = changed as? Decomposed {
      changed = decomposed.inner
      try addMagnitude(decomposed, path, module.name)
    }
    if let place = parameters.place(of: module) { return try add(module, at: place, scale) }
    guard let update = changed as? LowRank else {
      throw SurgeryError.inexpressible(module.update, in: .peft, module.name)
    }
    guard module.target.parameter == "weight" else {
      throw SurgeryError.noWeight(module, in: .peft)
    }
    guard update.core == nil else {
      throw SurgeryError.inexpressible(update, in: .peft, module.name)
    }
    guard adapted.insert(path).inserted else {
      throw SurgeryError.inexpressible("two updates of one tensor", in: .peft, module.name)
    }
    let rank = update.up.columns
    places[path] = modules.count
    modules.append(.init(path: path, rank: rank, alpha: scale * Double(rank)))
    let key = "base_model.model.\(path)"
    // Extraction sees a matrix; the layer that will read the adapter is an embedding all the same.
    let isEmbedding = update.form == .linear && BaseNames.isEmbeddingModule(path)
    switch isEmbedding ? .embedding : update.form {
    case .linear:
      try file.add("\(key).lora_A.weight", update.down)
      try file.add("\(key).lora_B.weight", update.up)
    case .embedding:
      try file.add("\(key).lora_embedding_A", update.up.transposed())
      try file.add("\(key).lora_embedding_B", update.down.transposed())
    case .convolution(let kernel):
      let inputs = update.down.columns / max(kernel.reduce(1, *), 1)
      try file.add("\(key).lora_A.weight", update.down, shape: [rank, inputs] + kernel)
      try file.add(
        "\(key).lora_B.weight", update.up, shape: [update.up.rows, rank] + kernel.map { _ in 1 })
    }
  }

  /// A change of a parameter: of a stack of experts, or of a matrix.
  private mutating func add(
    _ module: ModuleUpdate, at place: PEFTParameters.Place, _ scale: Double
  ) throws(SurgeryError) {
    let (up, down, rank): (Factor, Factor, Int)
    switch module.update {
    case let stack as StackedLowRank:
      (up, down, rank) = (stack.upByRank, stack.down, stack.rank ?? 1)
    case let pair as LowRank where pair.core == nil && pair.form == .linear:
      (up, down, rank) = (pair.up, pair.down, pair.up.columns)
    default:
      throw SurgeryError.inexpressible(
        "this change of \(module.target.parameter)", in: .peft, module.name,
        hint: "--as lora factors it anew")
    }
    guard adapted.insert(place.path).inserted else {
      throw SurgeryError.inexpressible("two updates of one tensor", in: .peft, module.name)
    }
    modules.append(.init(path: place.path, rank: rank, alpha: scale * Double(rank)))
    targetParameters.append(place.path)
    try file.add("base_model.model.\(place.module).lora_A.weight", down)
    try file.add("base_model.model.\(place.module).lora_B.weight", up)
  }

  /// Magnitudes of outputs, or of an embedding's columns, which is all that PEFT has.
  private mutating func addMagnitude(
    _ decomposed: Decomposed, _ path: String, _ module: String
  ) throws(SurgeryError) {
    let form = (decomposed.inner as? LowRank)?.form
    let expected: Decomposed.Axis = form == .embedding ? .inputs(kernelSize: 1) : .outputs
    guard decomposed.axis == expected else {
      throw SurgeryError.inexpressible(
        "magnitudes on this axis", in: .peft, module)
    }
    let count = decomposed.magnitude.count
    var shape = [count]
    if case .convolution(let kernel) = form { shape = [1, count] + kernel.map { _ in 1 } }
    decomposedCount += 1
    try file.add(
      "base_model.model.\(path).lora_magnitude_vector", decomposed.magnitude, shape: shape)
  }

  private mutating func add(_ replacement: Replacement) throws(SurgeryError) {
    let target = replacement.target
    guard target.spelling == .dotted, !target.parameter.isEmpty else {
      throw SurgeryError.inexpressible(
        "a full tensor outside a module", in: .peft, target.tensorName,
        hint: "--to compact holds it; --exclude leaves it out")
    }
    let wrapped =
      parameters.wrappedModule(target.module)
      ?? (adapted.contains(target.module) ? "\(target.module).base_layer" : nil)
    if let wrapped {
      // A wrapped layer's own tensors lie one level down (peft:src/peft/utils/save_and_load.py).
      try file.add(
        "base_model.model.\(wrapped).\(target.parameter)", full: replacement.tensor)
      usesReplacedBias = usesReplacedBias || target.parameter == "bias"
      return
    }
    try file.add("base_model.model.\(target.tensorName)", full: replacement.tensor)
    full[target.module, default: []].insert(target.parameter)
    if replacement.reason == Replacement.savedModule { savedModules.insert(target.module) }
  }

  private func config(of adapter: Adapter) throws(SurgeryError) -> JSONValue {
    let paths = modules.map(\.path)
    // A module to save must have every parameter in the file, else PEFT refuses to load; the others are loaded by name all
    // the same. One that was saved as a module has them, and is parted from what it shares its tensor with.
    let saved = full.filter {
      savedModules.contains($0.key) || $0.value.isSuperset(of: ["weight", "bias"])
    }.map(\.key).sorted()
    let hasOtherBias = full.values.contains(["bias"])
    let parameters = Set(targetParameters)
    let targets = paths.filter { !parameters.contains($0) }
    var config: [JSONValue.Member] = [
      .init("peft_type", .string("LORA")),
      .init("task_type", .null),
      .init("base_model_name_or_path", adapter.provenance.baseName.map { .string($0) } ?? .null),
      .init("inference_mode", .bool(true)),
    ]
    config += PEFTRanks(modules).members(alphaField: "lora_alpha")
    config += [
      .init("target_modules", .array(targets.map { .string($0) })),
      .init("modules_to_save", saved.isEmpty ? .null : .array(saved.map { .string($0) })),
      .init("bias", .string(hasOtherBias ? "all" : usesReplacedBias ? "lora_only" : "none")),
      .init("lora_bias", .bool(hasBias)),
      .init("lora_dropout", .double(0)),
      .init("fan_in_fan_out", .bool(adapter.fanInFanOut ?? false)),
      .init("init_lora_weights", .bool(true)),
      .init("use_rslora", .bool(false)),
      .init("use_dora", .bool(decomposedCount > 0)),
    ]
    if !targetParameters.isEmpty {
      config.append(
        .init("target_parameters", .array(targetParameters.map { .string($0) })))
      // Which way square experts lie depends on it.
      config.append(.init("peft_version", .string("0.21.2")))
    }
    return .object(config)
  }
}
