import Tensors

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

  /// Stacks that checkpoints have under names of their own: GraniteMoE's and Aria's.
  private static let renamedStacks = [
    (".block_sparse_moe.input_linear", ".block_sparse_moe.experts.gate_up_proj"),
    (".block_sparse_moe.output_linear", ".block_sparse_moe.experts.down_proj"),
    (".experts.fc1", ".experts.gate_up_proj"), (".experts.fc2", ".experts.down_proj"),
  ]

  /// The parameter in memory that a module of a checkpoint is, where it is a stack under a name of its own.
  static func parameter(ofStack path: String) -> String? {
    for (old, new) in renamedStacks where path.hasSuffix(old) {
      return "\(path.dropLast(old.count))\(new)"
    }
    return nil
  }

  /// Parameters of the experts' module in the order in which models register them.
  static let registrationOrder = ["gate_up_proj", "gate_proj", "up_proj", "down_proj"]

  /// Whether a tensor stacks the matrices of experts, and is no kernel of a convolution: by the names that experts have.
  static func isStack(_ tensor: TensorInfo) -> Bool {
    tensor.shape.rank == 3
      && tensor.name.text.split(separator: ".").contains {
        ["experts", "switch_mlp", "block_sparse_moe", "moe"].contains($0)
      }
  }

  /// Parameters of the experts' module that they make up together: of each expert first the gate's rows, then those of the other
  /// matrix that multiplies the input.
  static func stackedAliases(of path: String) -> [Alias] {
    if let parameter = parameter(ofStack: path) { return [Alias(module: parameter)] }
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
