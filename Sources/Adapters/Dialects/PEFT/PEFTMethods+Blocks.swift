import Checkpoints
import Tensors

/// Methods of PEFT that put factors together of blocks: BOFT, GraLoRA, VB-LoRA.
extension PEFTMethodBuilder {
  func boft(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let tensor = try parts.take("boft_R")
    let shape = tensor.info.shape.dimensions
    guard shape.count == 4, shape[2] == shape[3], shape[0] > 0 else {
      throw SurgeryError.adapter(
        "shape", "the blocks of a rotation must be square", file: file, key: tensor.name.text,
        expected: "stages x blocks x size x size", found: "\(tensor.info.shape)")
    }
    return made(
      parts,
      try Butterfly(
        blocks: Factor(tensor).reshaped(rows: shape[0] * shape[1], columns: shape[2] * shape[3]),
        stages: shape[0], blockSize: shape[2], convention: .peft,
        rescale: parts.find("boft_s").map { Factor($0) }))
  }

  /// Block (j, n) of the weight has a rank-`r/k` change: of the inputs' block n the columns j, of the outputs' block j the rows n
  /// (peft:src/peft/tuners/gralora/layer.py, `get_delta_weight`).
  func graLoRA(_ parts: inout PEFTParts) throws(SurgeryError) -> ModuleUpdate {
    let (a, b) = (try parts.take("gralora_A"), try parts.take("gralora_B"))
    let (first, second) = (a.info.shape.dimensions, b.info.shape.dimensions)
    guard first.count == 3, second.count == 3, first[0] == second[0], first[2] == second[1],
      first[0] > 0, first[2] > 0, first[2].isMultiple(of: first[0])
    else {
      throw SurgeryError.adapter(
        "shape", "the factors of a GraLoRA do not fit each other", file: file, key: b.name.text,
        expected: "k x in/k x r and k x r x out/k", found: "\(a.info.shape) and \(b.info.shape)")
    }
    let (blocks, inputs, rank, outputs) = (first[0], first[1], first[2], second[2])
    let part = rank / blocks
    let down = Factor(a).reshaped(rows: blocks * inputs, columns: rank)
    let up = Factor(b).reshaped(rows: blocks * rank, columns: outputs)
    var tiles: [TiledLowRank.Tile] = []
    for j in 0..<blocks {
      for n in 0..<blocks {
        tiles.append(
          .init(
            rows: (j * outputs)..<((j + 1) * outputs), columns: (n * inputs)..<((n + 1) * inputs),
            update: try LowRank(
              up: up.rows((j * rank + n * part)..<(j * rank + (n + 1) * part)).transposed(),
              down: down.rows((n * inputs)..<((n + 1) * inputs))
                .columns((j * part)..<((j + 1) * part)).transposed())))
      }
    }
    let (rows, columns) = (blocks * outputs, blocks * inputs)
    var general = 0
    if parts.has("gralora_A_general") {
      let pair = try LowRank(
        up: try parts.matrix("gralora_B_general"), down: try parts.matrix("gralora_A_general"))
      guard pair.rows == rows, pair.columns == columns else {
        throw SurgeryError.adapter(
          "shape", "the general factors of a GraLoRA do not fit the others", file: file,
          key: pair.up.tensor.name.text, expected: "\(rows) x \(columns)",
          found: "\(pair.rows) x \(pair.columns)")
      }
      general = pair.up.columns
      tiles.append(.init(rows: 0..<rows, columns: 0..<columns, update: pair))
    }
    let (scale, alpha) = try scale(parts.path, rank: rank + general, default: 64)
    return made(
      parts,
      TiledLowRank(
        algorithm: "gralora", tiles: tiles, rows: rows, columns: columns, rank: rank),
      scale: scale, alpha: alpha)
  }

  /// The bank lies beside the modules (peft:src/peft/tuners/vblora/layer.py).
  func vbLoRA(
    _ parts: inout PEFTParts, _ shared: PEFTModules.Module?
  ) throws(SurgeryError) -> ModuleUpdate {
    guard let bank = shared?.parts["vblora_vector_bank"] else {
      throw SurgeryError.adapter(
        "incomplete", "the vector bank of VB-LoRA is not in the file", file: file,
        expected: "base_model.vblora_vector_bank", found: "none")
    }
    let most = try config.positive("topk", default: 2)
    let (down, _) = try choice("vblora_logits_A", &parts, bank, most: most)
    let (up, rank) = try choice("vblora_logits_B", &parts, bank, most: most)
    return made(
      parts, try VectorBank(bank: Factor(bank), down: down, up: up, rank: rank))
  }

  /// A choice with the second dimension of its tensor, which is the rank in `up`.
  private func choice(
    _ name: String, _ parts: inout PEFTParts, _ bank: StoredTensor, most: Int
  ) throws(SurgeryError) -> (choice: VectorBank.Choice, second: Int) {
    func rows(_ tensor: StoredTensor, last: Int?) throws(SurgeryError) -> Factor {
      let shape = tensor.info.shape.dimensions
      guard shape.count == 3, last == nil || shape[2] == last else {
        throw SurgeryError.adapter(
          "shape", "the choice of vectors has another shape", file: file, key: tensor.name.text,
          expected: "three dimensions" + (last.map { ", the last \($0)" } ?? ""),
          found: "\(tensor.info.shape)")
      }
      return Factor(tensor).reshaped(rows: shape[0] * shape[1], columns: shape[2])
    }
    if let logits = parts.find(name) {
      let factor = try rows(logits, last: bank.info.shape.rows)
      return (.logits(factor, most: most), logits.info.shape.dimensions[1])
    }
    let indices = try parts.take(name + "_topk_indices")
    let chosen = try rows(indices, last: nil)
    let weights = try rows(
      try parts.take(name + "_topk_weights"), last: max(chosen.columns - 1, 0))
    guard weights.rows == chosen.rows, chosen.columns > 0 else {
      throw SurgeryError.adapter(
        "shape", "the weights of the vectors do not fit their indices", file: file,
        key: weights.tensor.name.text,
        expected: "one fewer for each piece than \(indices.info.shape)",
        found: "\(weights.tensor.info.shape)")
    }
    return (.chosen(indices: chosen, weights: weights), indices.info.shape.dimensions[1])
  }
}
