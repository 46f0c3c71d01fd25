import Checkpoints
import Tensors

/// Writes the updates of a module under one stem, for kohya, LyCORIS and ComfyUI.
struct StemWriter {
  let dialect: Dialect
  /// Whether the dialect holds tensors in full (`set_weight`).
  let holdsReplacements: Bool
  private(set) var file: AdapterFileBuilder
  private(set) var ranks: [Int] = []
  private(set) var alphas: [Double] = []
  private(set) var usesLyCORIS = false

  init(dialect: Dialect, dtype: DType?, holdsReplacements: Bool) {
    self.dialect = dialect
    self.holdsReplacements = holdsReplacements
    file = AdapterFileBuilder(dtype: dtype)
  }

  mutating func add(_ module: ModuleUpdate, stem: String) throws(SurgeryError) {
    let scale = try module.knownScale()
    let isBias = module.target.parameter == "bias"
    guard isBias || module.target.parameter == "weight" else {
      throw SurgeryError.noWeight(module, in: dialect)
    }
    if let difference = module.update as? FullDifference {
      let isVector = difference.difference.tensor.info.shape.rank == 1
      let tail = isBias ? "diff_b" : isVector ? "w_norm" : "diff"
      usesLyCORIS = true
      return try file.add(
        "\(stem).\(tail)", difference.difference,
        shape: difference.difference.tensor.info.shape.dimensions, scale: scale)
    }
    guard !isBias else {
      throw SurgeryError.inexpressible("this change of a bias", in: dialect, module.name)
    }
    if let decomposed = module.update as? Decomposed {
      try add(decomposed.inner, stem, scale, module.name)
      try add(decomposed, stem)
    } else {
      try add(module.update, stem, scale, module.name)
    }
  }

  private mutating func add(
    _ update: any Update, _ stem: String, _ scale: Double, _ module: String
  ) throws(SurgeryError) {
    switch update {
    case let pair as LowRank where pair.form != .embedding:
      try add(pair, stem)
      try addAlpha(stem, scale * Double(pair.up.columns), rank: pair.up.columns)
    case let product as Hadamard:
      usesLyCORIS = true
      try add(product.first, stem, ["hada_w1_a", "hada_w1_b", "hada_t1"])
      try add(product.second, stem, ["hada_w2_a", "hada_w2_b", "hada_t2"])
      try addAlpha(stem, scale * Double(product.first.up.columns), rank: product.first.up.columns)
    case let product as Kronecker:
      usesLyCORIS = true
      try add(product, stem, scale)
    case let diagonal as DiagonalScale where diagonal.isOffset:
      usesLyCORIS = true
      try file.add(
        "\(stem).weight", diagonal.values, shape: diagonal.values.tensor.info.shape.dimensions,
        scale: scale)
      try file.add(
        "\(stem).on_input", values: [diagonal.axis == .outputs ? 0 : 1], shape: [], dtype: .i64)
    default:
      throw SurgeryError.inexpressible(update, in: dialect, module)
    }
  }

  /// Convolutions keep their shape: `down` has the kernel, `up` ones.
  private mutating func add(_ pair: LowRank, _ stem: String) throws(SurgeryError) {
    let rank = pair.up.columns
    switch pair.form {
    case .linear, .embedding:
      try file.add("\(stem).lora_down.weight", pair.down)
      try file.add("\(stem).lora_up.weight", pair.up)
    case .convolution(let kernel):
      let ones = kernel.map { _ in 1 }
      let size = pair.core == nil ? kernel.reduce(1, *) : 1
      try file.add(
        "\(stem).lora_down.weight", pair.down,
        shape: [rank, pair.down.columns / max(size, 1)] + (pair.core == nil ? kernel : ones))
      try file.add("\(stem).lora_up.weight", pair.up, shape: [pair.up.rows, rank] + ones)
      if let core = pair.core {
        usesLyCORIS = true
        try file.add("\(stem).lora_mid.weight", core, shape: [rank, rank] + kernel)
      }
    }
  }

  private mutating func add(
    _ term: LowRank, _ stem: String, _ names: [String]
  ) throws(SurgeryError) {
    guard let core = term.core else {
      try file.add("\(stem).\(names[0])", term.up)
      try file.add("\(stem).\(names[1])", term.down)
      return
    }
    // With a core both factors are stored with the rank first.
    try file.add("\(stem).\(names[0])", term.up.transposed())
    try file.add("\(stem).\(names[1])", term.down)
    try file.add("\(stem).\(names[2])", core, shape: core.tensor.info.shape.dimensions)
  }

  private mutating func add(
    _ product: Kronecker, _ stem: String, _ scale: Double
  ) throws(SurgeryError) {
    // With both factors whole LyCORIS ignores alpha, so the scale goes into the first.
    let folded = product.rank == nil ? scale : 1
    switch product.first {
    case .full(let factor): try file.add("\(stem).lokr_w1", factor, scale: folded)
    case .lowRank(let pair): try add(pair, stem, ["lokr_w1_a", "lokr_w1_b", "lokr_t1"])
    }
    switch product.second {
    case .full(let factor):
      try file.add(
        "\(stem).lokr_w2", factor,
        shape: factor.isPlain ? factor.tensor.info.shape.dimensions : nil)
    case .lowRank(let pair): try add(pair, stem, ["lokr_w2_a", "lokr_w2_b", "lokr_t2"])
    }
    if let rank = product.rank {
      try addAlpha(stem, scale * Double(rank), rank: rank)
    } else {
      // Ignored, yet LyCORIS does not load a module without it.
      try file.add("\(stem).alpha", values: [1], shape: [], dtype: .f32)
    }
  }

  private mutating func add(_ decomposed: Decomposed, _ stem: String) throws(SurgeryError) {
    usesLyCORIS = true
    let count = decomposed.magnitude.count
    var kernelAxes = 0
    if let pair = decomposed.inner as? LowRank, case .convolution(let kernel) = pair.form {
      kernelAxes = kernel.count
    }
    let ones = [Int](repeating: 1, count: kernelAxes)
    try file.add(
      "\(stem).dora_scale", decomposed.magnitude,
      shape: (decomposed.axis == .outputs ? [count, 1] : [1, count]) + ones)
  }

  /// Alpha is written in single precision whatever the factors are, so that it survives.
  private mutating func addAlpha(
    _ stem: String, _ alpha: Double, rank: Int
  ) throws(SurgeryError) {
    try file.add("\(stem).alpha", values: [alpha], shape: [], dtype: .f32)
    ranks.append(rank)
    alphas.append(alpha)
  }

  mutating func add(_ replacement: Replacement, stem: String) throws(SurgeryError) {
    guard holdsReplacements, replacement.target.parameter == "weight" else {
      throw SurgeryError.inexpressible(
        "a tensor stored in full (\(replacement.reason))", in: dialect,
        replacement.target.tensorName, hint: "--to peft or compact can hold it")
    }
    try file.add("\(stem).set_weight", full: replacement.tensor)
  }

  /// The plan of one file.
  func plan(
    to path: String, options: AdapterWritingOptions, metadata: [String: String],
    notes: [String] = []
  ) -> AdapterPlan {
    AdapterPlan(file, to: path, inFolderAs: "adapter", options, metadata: metadata, notes: notes)
  }
}
