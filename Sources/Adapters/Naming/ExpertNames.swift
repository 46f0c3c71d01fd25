/// Names of the experts of a mixture, one by one in checkpoints, stacked in memory and in adapters
/// (transformers:src/transformers/conversion_mapping.py, `MergeModulelist`; mlx-lm:mlx_lm/models/switch_layers.py).
enum ExpertNames {
  /// What a matrix of an expert is, by the last component of its path; Mixtral counts its matrices.
  private enum Role: String {
    case gate = "gate_proj"
    case up = "up_proj"
    case down = "down_proj"

    init?(_ leaf: Substring) {
      switch leaf {
      case "gate_proj", "w1": self = .gate
      case "up_proj", "w3": self = .up
      case "down_proj", "w2": self = .down
      default: return nil
      }
    }

    /// Tinker's name.
    var number: String {
      switch self {
      case .gate: "w1"
      case .up: "w3"
      case .down: "w2"
      }
    }
  }

  /// The blocks that an expert's matrix may be looked for in, its number and what it is.
  private static func parts(of path: String) -> (blocks: [String], expert: Int, role: Role)? {
    let components = path.split(separator: ".")
    guard components.count >= 4, let role = Role(components[components.count - 1]),
      let expert = Int(components[components.count - 2]), expert >= 0,
      components[components.count - 3] == "experts"
    else { return nil }
    let outer = components.dropLast(3)
    var blocks = [outer.joined(separator: ".")]
    // What Mixtral's checkpoints call so is `mlp` in transformers since version 5.
    if outer.last == "block_sparse_moe" {
      blocks.append((outer.dropLast() + ["mlp"]).joined(separator: "."))
    }
    return (blocks, expert, role)
  }

  /// Modules that the weights of all experts make up together: MLX's switch layers and Tinker's.
  static func aliases(of path: String) -> [Alias] {
    guard let (blocks, expert, role) = parts(of: path) else { return [] }
    return blocks.flatMap { block in
      [
        Alias(module: "\(block).switch_mlp.\(role.rawValue)", piece: expert),
        Alias(module: "\(block).experts.\(role.number)", piece: expert),
      ]
    }
  }

  /// Parameters of the experts' module that they make up together: of each expert first the gate's rows, then those of the other
  /// matrix that multiplies the input.
  static func stackedAliases(of path: String) -> [Alias] {
    // GraniteMoE's checkpoints have the stacks, under names of their own.
    for (old, new) in [("input_linear", "gate_up_proj"), ("output_linear", "down_proj")]
    where path.hasSuffix(".block_sparse_moe.\(old)") {
      return [Alias(module: "\(path.dropLast(old.count))experts.\(new)")]
    }
    guard let (blocks, expert, role) = parts(of: path) else { return [] }
    return blocks.map { block in
      switch role {
      case .gate: Alias(module: "\(block).experts.gate_up_proj", piece: 2 * expert)
      case .up: Alias(module: "\(block).experts.gate_up_proj", piece: 2 * expert + 1)
      case .down: Alias(module: "\(block).experts.down_proj", piece: expert)
      }
    }
  }
}
