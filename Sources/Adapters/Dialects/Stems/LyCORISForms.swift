import Checkpoints
import Tensors

/// The forms that LyCORIS and PEFT share, made of factors whatever the keys were called.
enum LyCORISForms {
  /// One matrix of a LoHa: `a · b`, or with a core the Tucker form, in which both are stored `rank x …`.
  static func hadamardTerm(
    _ a: Factor, _ b: Factor, core: StoredTensor?
  ) throws(SurgeryError) -> LowRank {
    guard let core else { return try LowRank(up: a, down: b) }
    return try LowRank(up: a.transposed(), down: b, core: coreFactor(core))
  }

  /// A core `[rank, rank, kernel…]` as `(rank · rank) x kernel`.
  static func coreFactor(_ core: StoredTensor) throws(SurgeryError) -> Factor {
    let dimensions = core.info.shape.dimensions
    guard dimensions.count >= 2, dimensions[0] > 0, dimensions[1] > 0 else {
      throw SurgeryError.adapter(
        "shape", "a middle factor must be rank x rank x kernel",
        file: core.source.file.path, key: core.name.text, found: "\(core.info.shape)")
    }
    let rows = dimensions[0] * dimensions[1]
    return Factor(core).reshaped(rows: rows, columns: core.info.shape.elementCount / rows)
  }
}
