import Checkpoints
import Tensors

/// Block-diagonal LoRA: of the modules that the configuration names, one factor is stored as its blocks, one upon the other
/// (peft:src/peft/tuners/lora/variants.py, `BdLoraLinearVariant`).
struct PEFTBlockDiagonal {
  private let down: [String]
  private let up: [String]
  private let blocks: Int

  /// Returns `nil` where the configuration has no `use_bdlora`.
  init?(_ config: PEFTConfig?) throws(SurgeryError) {
    guard let config, let json = config.json["use_bdlora"], !json.isNull, json.flag != false
    else { return nil }
    let own = try PEFTConfig(json, path: config.path, type: config.type)
    down = try own.names("target_modules_bd_a")
    up = try own.names("target_modules_bd_b")
    blocks = try own.positive("nblocks", default: 1)
  }

  /// The update of a module with a block-diagonal factor; `nil` for one that has none.
  func update(
    of path: String, down first: StoredTensor, up second: StoredTensor
  ) throws(SurgeryError) -> TiledLowRank? {
    let name = path.split(separator: ".").last.map(String.init) ?? path
    let isDown = down.contains { name.contains($0) }
    guard isDown || up.contains(where: { name.contains($0) }) else { return nil }
    let (down, up) = (Factor(first), Factor(second))
    let (rank, outputs) = (down.rows, up.rows)
    let fits =
      isDown
      ? up.columns == rank : up.columns == rank / blocks && outputs.isMultiple(of: blocks)
    guard fits, rank > 0, rank.isMultiple(of: blocks), first.info.shape.rank == 2,
      second.info.shape.rank == 2
    else {
      throw SurgeryError.adapter(
        "shape", "the blocks of a factor do not fit the other factor",
        file: second.source.file.path, key: second.name.text,
        expected: "\(blocks, counting: "block") (use_bdlora.nblocks)",
        found: "\(first.info.shape) and \(second.info.shape)")
    }
    let inner = rank / blocks
    var tiles: [TiledLowRank.Tile] = []
    for block in 0..<blocks {
      let ranks = (block * inner)..<((block + 1) * inner)
      if isDown {
        let width = down.columns
        tiles.append(
          .init(
            rows: 0..<outputs, columns: (block * width)..<((block + 1) * width),
            update: try LowRank(up: up.columns(ranks), down: down.rows(ranks))))
      } else {
        let height = outputs / blocks
        let rows = (block * height)..<((block + 1) * height)
        tiles.append(
          .init(
            rows: rows, columns: 0..<down.columns,
            update: try LowRank(up: up.rows(rows), down: down.rows(ranks))))
      }
    }
    return TiledLowRank(
      algorithm: "bdlora", tiles: tiles, rows: outputs,
      columns: isDown ? down.columns * blocks : down.columns, rank: rank)
  }
}
