import Checkpoints
import Tensors

/// LoHa and LoKr, whose tensors are those of LyCORIS.
extension PEFTMethodWriter {
  /// Elementwise products (peft:src/peft/tuners/loha/layer.py).
  mutating func addLoHa(_ adapter: Adapter) throws(SurgeryError) -> [JSONValue.Member] {
    var hasCores = false
    for module in adapter.modules {
      guard let product = module.update as? Hadamard else { continue }
      let path = try path(of: module)
      let rank = product.first.up.columns
      guard product.second.up.columns == rank else {
        throw inexpressible("two products of unequal rank", module.name)
      }
      modules.append(
        .init(path: path, rank: rank, alpha: try module.knownScale() * Double(rank)))
      let terms = [
        (product.first, ["hada_w1_a", "hada_w1_b", "hada_t1"]),
        (product.second, ["hada_w2_a", "hada_w2_b", "hada_t2"]),
      ]
      for (term, names) in terms {
        try add(term, path, names, module.name)
        hasCores = hasCores || term.core != nil
      }
    }
    return PEFTRanks(modules).members(alphaField: "alpha") + settings(hasCores: hasCores)
  }

  /// Kronecker products, for which PEFT computes the shapes of the factors from the layer's (peft:src/peft/tuners/lokr/layer.py):
  /// the configuration must lead to those that are there.
  mutating func addLoKr(_ adapter: Adapter) throws(SurgeryError) -> [JSONValue.Member] {
    var products: [(module: ModuleUpdate, product: Kronecker)] = []
    for module in adapter.modules {
      if let product = module.update as? Kronecker { products.append((module, product)) }
    }
    let decomposesBoth = products.contains { $0.product.first.rank != nil }
    guard let divider = KroneckerShape.divider(of: products.map { KroneckerShape($0.product) })
    else {
      throw inexpressible(
        "factors of shapes that no one decompose_factor gives")
    }
    var hasCores = false
    for (module, product) in products {
      let path = try path(of: module)
      let scale = try module.knownScale()
      guard
        let rank = KroneckerShape(product).rank(
          product, decomposesBoth: decomposesBoth, divider: divider)
      else {
        throw inexpressible(
          "factors that are whole or divided where PEFT's rule says otherwise", module.name)
      }
      modules.append(.init(path: path, rank: rank, alpha: scale * Double(rank)))
      switch product.first {
      case .full(let factor): try file.add("\(key(path)).lokr_w1", factor)
      case .lowRank(let pair):
        try add(pair, path, ["lokr_w1_a", "lokr_w1_b", "lokr_t1"], module.name)
      }
      switch product.second {
      case .full(let factor):
        try file.add(
          "\(key(path)).lokr_w2", factor,
          shape: factor.isPlain ? factor.tensor.info.shape.dimensions : nil)
      case .lowRank(let pair):
        try add(pair, path, ["lokr_w2_a", "lokr_w2_b", "lokr_t2"], module.name)
        hasCores = hasCores || pair.core != nil
      }
    }
    return PEFTRanks(modules).members(alphaField: "alpha") + settings(hasCores: hasCores) + [
      .init("decompose_both", .bool(decomposesBoth)), .init("decompose_factor", .integer(divider)),
      .init("rank_dropout_scale", .bool(false)),
    ]
  }

  private func settings(hasCores: Bool) -> [JSONValue.Member] {
    [
      .init("use_effective_conv2d", .bool(hasCores)), .init("rank_dropout", .double(0)),
      .init("module_dropout", .double(0)), .init("init_weights", .bool(true)),
    ]
  }

  /// One matrix: two factors, or with a core the three of the Tucker form, all with the rank first.
  private mutating func add(
    _ term: LowRank, _ path: String, _ names: [String], _ module: String
  ) throws(SurgeryError) {
    guard let core = term.core else {
      try file.add("\(key(path)).\(names[0])", term.up)
      try file.add("\(key(path)).\(names[1])", term.down)
      return
    }
    let kernel = Array(core.tensor.info.shape.dimensions.dropFirst(2))
    guard !kernel.isEmpty, kernel.count < 3 else {
      throw inexpressible("a core of \(core.tensor.info.shape)", module)
    }
    let rank = term.up.columns
    try file.add("\(key(path)).\(names[0])", term.up.transposed())
    try file.add("\(key(path)).\(names[1])", term.down)
    // Kernels of one dimension get a second.
    try file.add(
      "\(key(path)).\(names[2])", core,
      shape: [rank, term.down.rows] + kernel + (kernel.count == 1 ? [1] : []))
  }
}

/// The shapes of the two factors of a Kronecker product.
struct KroneckerShape {
  /// Dimensions beyond this belong to no layer, and would take long to divide.
  private static let largestDimension = 1 << 24

  private let first: (rows: Int, columns: Int)
  private let second: (rows: Int, columns: Int)
  /// Elements of the kernel where the stored shape tells them.
  private let kernelSize: Int?

  init(_ product: Kronecker) {
    first = (product.first.rows, product.first.columns)
    second = (product.second.rows, product.second.columns)
    switch product.second {
    case .full(let factor):
      kernelSize = factor.tensor.info.shape.dimensions.dropFirst(2).reduce(1, *)
    case .lowRank(let pair): kernelSize = pair.core.map(\.columns)
    }
  }

  /// The `decompose_factor` that gives all shapes, -1 first; `nil` where none does.
  ///
  /// Divided factors do not tell whether their columns contain a kernel; the fewer kernels must be supposed, the better.
  static func divider(of shapes: [Self]) -> Int? {
    let sizes = Set(shapes.flatMap { [$0.first.rows, $0.first.columns] }).sorted()
    var best: (divider: Int, kernels: Int)?
    for divider in [-1] + sizes {
      var kernels = 0
      let isPossible = shapes.allSatisfy { shape in
        guard let inner = shape.innerColumns(from: divider) else { return false }
        if shape.kernelSize == nil, inner < shape.second.columns { kernels += 1 }
        return true
      }
      if isPossible, best.map({ kernels < $0.kernels }) ?? true { best = (divider, kernels) }
    }
    return best?.divider
  }

  /// Columns of the second factor without a kernel: the most that a divider gives; `nil` where it gives another shape.
  private func innerColumns(from divider: Int) -> Int? {
    guard Self.factors(of: first.rows * second.rows, divider) == (first.rows, second.rows) else {
      return nil
    }
    return possibleInnerColumns.first {
      Self.factors(of: first.columns * $0, divider) == (first.columns, $0)
    }
  }

  /// Columns of the second factor without a kernel, as far as it tells: the most first.
  private var possibleInnerColumns: [Int] {
    if let kernelSize { return [second.columns / max(kernelSize, 1)] }
    return [1, 3, 5, 7, 9, 25, 49].filter { second.columns.isMultiple(of: $0) }
      .map { second.columns / $0 }
  }

  /// A rank that makes PEFT expect the factors as they are, whole or divided; `nil` where none does.
  func rank(_ product: Kronecker, decomposesBoth: Bool, divider: Int) -> Int? {
    let long = max(second.rows, innerColumns(from: divider) ?? 1)
    let short = max(first.rows, first.columns)
    var least = 1
    if product.second.rank == nil { least = max(least, (long + 1) / 2) }
    if decomposesBoth, product.first.rank == nil { least = max(least, (short + 1) / 2) }
    let rank = product.second.rank ?? product.first.rank ?? least
    guard rank >= least, product.first.rank.map({ $0 == rank && 2 * rank < short }) ?? true,
      product.second.rank.map({ $0 == rank && 2 * rank < long }) ?? true
    else { return nil }
    return rank
  }

  /// Two factors of a dimension (peft:src/peft/tuners/lokr/layer.py, `factorization`).
  private static func factors(of dimension: Int, _ divider: Int) -> (Int, Int) {
    guard dimension > 0, dimension <= largestDimension else { return (0, 0) }
    if divider > 0, dimension % divider == 0 { return (divider, dimension / divider) }
    let limit = divider == -1 ? dimension : divider
    var (smaller, larger) = (1, dimension)
    var length = smaller + larger
    while smaller < larger {
      var next = smaller + 1
      while dimension % next != 0 { next += 1 }
      let other = dimension / next
      if next + other > length || next > limit { break }
      (smaller, larger) = (next, other)
      length = smaller + larger
    }
    return (min(smaller, larger), max(smaller, larger))
  }
}
