import Checkpoints
import Tensors

/// The families of updates, made of the parts under a stem.
extension StemBuilder {
  func lowRank(_ parts: inout StemParts) throws(SurgeryError) -> LowRank {
    let down = try parts.matrix(.down)
    let up = try parts.matrix(.up)
    let kernel = Array(down.tensor.info.shape.dimensions.dropFirst(2))
    guard let mid = parts.find(.mid) else {
      return try LowRank(
        up: up, down: down, form: kernel.isEmpty ? .linear : .convolution(kernel: kernel))
    }
    return try LowRank(
      up: up, down: down, core: try LyCORISForms.coreFactor(mid),
      form: .convolution(kernel: Array(mid.info.shape.dimensions.dropFirst(2))))
  }

  func hadamard(_ parts: inout StemParts) throws(SurgeryError) -> Hadamard {
    try Hadamard(
      try LyCORISForms.hadamardTerm(
        try parts.matrix(.hadaFirstA), try parts.matrix(.hadaFirstB),
        core: parts.find(.hadaFirstCore)),
      try LyCORISForms.hadamardTerm(
        try parts.matrix(.hadaSecondA), try parts.matrix(.hadaSecondB),
        core: parts.find(.hadaSecondCore)))
  }

  /// The product with the rank that alpha is divided by: that of the first factor, else of the second, else none.
  func kronecker(
    _ parts: inout StemParts
  ) throws(SurgeryError) -> (product: Kronecker, rank: Int?) {
    let first: Kronecker.Term
    if let whole = parts.find(.krFirst) {
      first = .full(Factor(whole))
    } else {
      first = .lowRank(
        try LowRank(up: try parts.matrix(.krFirstA), down: try parts.matrix(.krFirstB)))
    }
    let second: Kronecker.Term
    if let whole = parts.find(.krSecond) {
      second = .full(Factor(whole))
    } else {
      second = .lowRank(
        try LyCORISForms.hadamardTerm(
          try parts.matrix(.krSecondA), try parts.matrix(.krSecondB),
          core: parts.find(.krSecondCore)))
    }
    return (try Kronecker(first, second), first.rank ?? second.rank)
  }

  /// GLoRA; its older files have every factor the other way round (ComfyUI:comfy/weight_adapter/glora.py).
  func generalised(_ parts: inout StemParts) throws(SurgeryError) -> GeneralisedLowRank {
    if let bias = parts.peek(.gloraBM) {
      throw SurgeryError.unsupportedAdapter(
        "GLoRA with a middle factor is not computed", file: file, key: bias.name.text)
    }
    let (a1, a2) = (try parts.matrix(.gloraA1), try parts.matrix(.gloraA2))
    let (b1, b2) = (try parts.matrix(.gloraB1), try parts.matrix(.gloraB2))
    let isOld = b2.columns == b1.rows && a1.rows == b1.rows && a2.columns == b1.rows
    let isNew = b1.columns == b2.rows && a1.columns == b2.rows && a2.rows == b2.rows
    return isOld && !isNew
      ? try GeneralisedLowRank(
        try LowRank(up: b2, down: b1), mixing: try LowRank(up: a2, down: a1))
      : try GeneralisedLowRank(
        try LowRank(up: b1, down: b2), mixing: try LowRank(up: a1, down: a2))
  }

  /// Rotations of outputs: kohya's by the prefix `oft_unet`, else LyCORIS's; a constraint of 0 forbids any rotation in kohya
  /// and means none in LyCORIS.
  func rotation(_ parts: inout StemParts, alpha: Double?) throws(SurgeryError) -> any Update {
    if let triangle = parts.find(.oftTriangle) { return try oneTrainerRotation(triangle, &parts) }
    let tensor = try parts.take(.oftBlocks)
    let shape = tensor.info.shape.dimensions
    guard shape.count == 3 || shape.count == 4, shape.last == shape.dropLast().last else {
      throw SurgeryError.adapter(
        "shape", "the blocks of a rotation must be square", file: file, key: tensor.name.text,
        expected: "blocks x size x size", found: "\(tensor.info.shape)")
    }
    let size = shape[shape.count - 1]
    let count = shape.dropLast(2).reduce(1, *)
    let outputs = Double(shape[shape.count - 3] * size)
    let isKohya = parts.stem.hasPrefix("oft_unet")
    let limit = alpha.flatMap { isKohya || $0 != 0 ? $0 * outputs : nil }
    let blocks = Factor(tensor).reshaped(rows: count, columns: size * size)
    let rescale = parts.find(.oftRescale).map { Factor($0) }
    if shape.count == 4 {
      return try Butterfly(
        blocks: blocks, stages: shape[0], blockSize: size, convention: .lycoris(limit: limit),
        rescale: rescale)
    }
    return try Orthogonal(
      blocks: blocks, blockSize: size, side: .outputs, storage: .difference, map: .plusMinus,
      limit: limit.map { .allBlocks($0) } ?? .none, rescale: rescale)
  }

  /// OneTrainer's OFT has PEFT's parametrisation (OneTrainer:modules/module/oft_utils.py).
  private func oneTrainerRotation(
    _ triangle: StoredTensor, _ parts: inout StemParts
  ) throws(SurgeryError) -> Orthogonal {
    if parts.has(.oftScaled) {
      throw SurgeryError.unsupportedAdapter(
        "OneTrainer's scaled OFT is not computed", file: file, key: triangle.name.text,
        found: "scaled_oft")
    }
    let blocks = Factor(triangle)
    let size = (1 + Int(Double(1 + 8 * blocks.columns).squareRoot())) / 2
    return try Orthogonal(
      blocks: blocks, blockSize: size, side: .inputs, storage: .triangle, map: .neumann(terms: 5))
  }

  /// The position of the magnitudes' long axis says what they belong to; a plain vector belongs to the outputs.
  func decomposed(
    _ inner: any Update, _ magnitude: StoredTensor
  ) throws(SurgeryError) -> any Update {
    let shape = magnitude.info.shape.dimensions
    let count = magnitude.info.shape.elementCount
    let isVector = shape.count == 1
    let isInput = shape.count >= 2 && shape[0] == 1 && shape[1] == count && count > 1
    let factor = Factor(magnitude).reshaped(rows: count, columns: 1)
    return try Decomposed(
      inner, magnitude: factor,
      axis: isInput
        ? .inputs(kernelSize: max(1, inner.columns / max(count, 1))) : .outputs,
      convention: isVector ? .peft : .lycoris)
  }
}

/// The tensors of one stem, taken one by one; what is left at the end is an error.
struct StemParts {
  let stem: String
  private let file: String
  private var parts: [StemKey.Part: StoredTensor]

  init(_ module: StemModules.Module, file: String) {
    stem = module.stem
    parts = module.parts
    self.file = file
  }

  func has(_ part: StemKey.Part) -> Bool { parts[part] != nil }

  func peek(_ part: StemKey.Part) -> StoredTensor? { parts[part] }

  mutating func find(_ part: StemKey.Part) -> StoredTensor? { parts.removeValue(forKey: part) }

  mutating func take(_ part: StemKey.Part) throws(SurgeryError) -> StoredTensor {
    guard let tensor = parts.removeValue(forKey: part) else {
      throw SurgeryError.adapter(
        "incomplete", "a module lacks one of its factors", file: file,
        key: parts.values.map(\.name.text).min() ?? stem,
        expected: "\(part.rawValue) of \(stem)", found: "none")
    }
    return tensor
  }

  mutating func matrix(_ part: StemKey.Part) throws(SurgeryError) -> Factor {
    let tensor = try take(part)
    guard tensor.info.shape.rank >= 2 else {
      throw SurgeryError.adapter(
        "shape", "a factor must be a matrix or the kernel of a convolution", file: file,
        key: tensor.name.text, expected: "at least 2 dimensions", found: "\(tensor.info.shape)")
    }
    return Factor(tensor)
  }

  /// A tensor of one number, which is read.
  mutating func number(_ part: StemKey.Part) throws(SurgeryError) -> Double? {
    guard let tensor = parts.removeValue(forKey: part) else { return nil }
    guard tensor.info.shape.elementCount == 1, tensor.info.dtype.isNumeric else {
      throw SurgeryError.adapter(
        "shape", "a single number is expected", file: file, key: tensor.name.text,
        expected: "one element", found: "\(tensor.info.dtype) \(tensor.info.shape)")
    }
    return [Double](widening: try tensor.bytes(), from: tensor.info.dtype).first
  }

  func finish() throws(SurgeryError) {
    guard let tensor = parts.values.min(by: { $0.name < $1.name }) else { return }
    throw SurgeryError.adapter(
      "unknown-key", "the tensor has no meaning beside the others of its module", file: file,
      key: tensor.name.text)
  }
}
