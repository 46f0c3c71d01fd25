import Checkpoints
import Tensors

/// LoHa, LoKr, (IA)³ and OFT as PEFT stores them.
extension PEFTMethodBuilder {
  func loha(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let first = try LyCORISForms.hadamardTerm(
      try parts.matrix("hada_w1_a"), try parts.matrix("hada_w1_b"), core: parts.find("hada_t1"))
    let second = try LyCORISForms.hadamardTerm(
      try parts.matrix("hada_w2_a"), try parts.matrix("hada_w2_b"), core: parts.find("hada_t2"))
    let (scale, alpha) = try scale(parts.path, rank: first.up.columns)
    return made(parts, try Hadamard(first, second), scale: scale, alpha: alpha)
  }

  /// The scale is `alpha / r` even where both factors are whole, unlike in LyCORIS.
  func lokr(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let first: Kronecker.Term
    if let whole = parts.find("lokr_w1") {
      first = .full(Factor(whole))
    } else {
      first = .lowRank(
        try LowRank(up: try parts.matrix("lokr_w1_a"), down: try parts.matrix("lokr_w1_b")))
    }
    let second: Kronecker.Term
    if let whole = parts.find("lokr_w2") {
      second = .full(Factor(whole))
    } else {
      second = .lowRank(
        try LyCORISForms.hadamardTerm(
          try parts.matrix("lokr_w2_a"), try parts.matrix("lokr_w2_b"),
          core: parts.find("lokr_t2")))
    }
    let update = try Kronecker(first, second)
    let general = try config.positive("r", default: 8)
    let own = try config.ranks("rank_pattern")[parts.path]?.value
    let (scale, alpha) = try scale(parts.path, rank: own ?? general)
    return made(parts, update, scale: scale, alpha: alpha)
  }

  /// Which axis is scaled shows in the shape; for convolutions the configuration says it.
  func ia3(_ parts: inout PEFTParts) throws(SurgeryError) -> [ModuleUpdate] {
    let tensor = try parts.take("ia3_l")
    let shape = tensor.info.shape.dimensions
    let scalesInputs: Bool
    if shape.count == 2, shape[0] != shape[1] {
      scalesInputs = shape[0] == 1
    } else {
      let path = parts.path
      scalesInputs = try config.names("feedforward_modules").contains { path.hasSuffix($0) }
    }
    let values = Factor(tensor)
    let weight = try DiagonalScale(
      values, axis: scalesInputs ? .inputs(kernelSize: 1) : .outputs, isOffset: false)
    if scalesInputs { return [made(parts, weight)] }
    var bias = made(
      parts, try DiagonalScale(values, axis: .outputs, isOffset: false))
    bias.target.parameter = "bias"
    bias.isOptional = true
    return [made(parts, weight), bias]
  }

  func oft(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let blocks = try parts.matrix("oft_R")
    // b(b-1)/2 parameters make a block of b.
    let size = (1 + Int(Double(1 + 8 * blocks.columns).squareRoot())) / 2
    let terms = try config.positive("num_cayley_neumann_terms", default: 5)
    guard terms <= Orthogonal.maximumTerms else {
      throw config.wrong(
        "num_cayley_neumann_terms", expected: "at most \(Orthogonal.maximumTerms)",
        .integer(terms))
    }
    let usesNeumann = try config.flag("use_cayley_neumann", default: true)
    var limit = Orthogonal.Limit.none
    if try config.flag("coft") {
      limit = .eachBlock(
        try config.number("eps", default: 6e-5) / Double(blocks.rows).squareRoot())
    }
    return made(
      parts,
      try Orthogonal(
        blocks: blocks, blockSize: size, side: .inputs, storage: .triangle,
        map: usesNeumann ? .neumann(terms: terms) : .minusPlus, limit: limit))
  }
}
