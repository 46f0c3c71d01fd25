public import Checkpoints
public import Tensors

/// How an adapter names the tensor that it changes.
public struct TargetReference: Sendable, Hashable {
  /// How the module's path is spelled.
  public enum Spelling: Sendable, Hashable {
    /// With dots, as in the model.
    case dotted
    /// With every dot turned into an underscore.
    case underscored
  }

  /// The part of a pipeline that a module belongs to.
  public enum Component: Sendable, Hashable {
    /// UNet, MMDiT, DiT: whatever predicts the noise.
    case denoiser
    /// A text encoder, counted from 1.
    case textEncoder(Int)
  }

  /// The module's path.
  public var module: String
  /// The tensor of the module: `weight`, `bias`, …; empty where `module` is the tensor's own name.
  public var parameter: String
  /// How the path is spelled.
  public var spelling: Spelling
  /// The part of a pipeline, where the key says so.
  public var component: Component?
  /// Other tensors of the module that are meant where the update does not fit the first.
  public var alternatives: [String] = []

  /// Names a tensor.
  public init(
    module: String, parameter: String = "weight", spelling: Spelling = .dotted,
    component: Component? = nil
  ) {
    self.module = module
    self.parameter = parameter
    self.spelling = spelling
    self.component = component
  }

  /// The full name, for dotted paths.
  public var tensorName: String {
    parameter.isEmpty ? module : module.isEmpty ? parameter : "\(module).\(parameter)"
  }
}

/// What a change holds of the difference of two models that it was extracted from.
public struct ExtractionFacts: Sendable, Hashable, Codable {
  /// The Frobenius norm of the difference.
  public var deltaNorm: Double
  /// The Frobenius norm of what the change does not hold of it.
  public var residualNorm: Double

  /// Pairs the norms.
  public init(deltaNorm: Double, residualNorm: Double) {
    self.deltaNorm = deltaNorm
    self.residualNorm = residualNorm
  }

  /// `1 - residualNorm² / deltaNorm²`, 1 where there was no difference.
  public var capturedEnergy: Double {
    deltaNorm > 0 ? 1 - residualNorm * residualNorm / (deltaNorm * deltaNorm) : 1
  }
}

/// The change of one tensor, with its scale.
public struct ModuleUpdate: Sendable {
  /// The module's name in the dialect's words, for messages and for the options that name modules.
  public var name: String
  /// The tensor that it changes.
  public var target: TargetReference
  /// The change.
  public var update: any Update
  /// The final scale; `nil` where neither file nor user says one, in which case resolving fails.
  public var scale: Double?
  /// The alpha that the scale was made from, where there was one.
  public var alpha: Double?
  /// Whether a base without the tensor is none the worse, as for the bias that goes along with a weight.
  public var isOptional = false
  /// The shape that the target is enlarged to, with zeros at the ends, before it is changed: ComfyUI's `reshape_weight`.
  public var enlargedShape: [Int]?
  /// How many times the dialect's own library applies the change, which is not always once.
  public var repetitions = 1
  /// What is known of its extraction; whoever changes the update takes it away.
  public var extraction: ExtractionFacts?

  /// Creates the change of one tensor.
  public init(
    name: String, target: TargetReference, update: any Update, scale: Double?,
    alpha: Double? = nil
  ) {
    self.name = name
    self.target = target
    self.update = update
    self.scale = scale
    self.alpha = alpha
  }

  /// A low-rank change of a tensor of the base, as `extract`, `resize` and `combine` make them.
  ///
  /// - Parameters:
  ///   - tensor: The tensor's name in the base.
  ///   - update: The factors.
  ///   - scale: The final scale.
  public init(changing tensor: TensorName, by update: any Update, scale: Double = 1) {
    let (module, parameter) = Self.split(tensor.text)
    self.init(
      name: module, target: TargetReference(module: module, parameter: parameter),
      update: update, scale: scale, alpha: update.rank.map { scale * Double($0) })
  }

  /// The scale, which arithmetic and writers need.
  ///
  /// - Parameter adapter: The adapter, for the message.
  /// - Returns: The final scale.
  /// - Throws: `adapter.no-scale`.
  package func knownScale(of adapter: Adapter? = nil) throws(SurgeryError) -> Double {
    guard let scale else {
      throw SurgeryError.adapter(
        "no-scale", "the adapter's files do not say how it is scaled", file: adapter?.path,
        key: update.factors.first?.tensor.name.text, expected: "alpha of module \(name)",
        found: adapter.map { "none (\($0.provenance.reason))" },
        hint: "--alpha gives it, or --scale the final factor")
    }
    return scale
  }

  /// Splits a tensor's name at its last dot.
  static func split(_ name: String) -> (module: String, parameter: String) {
    guard let dot = name.lastIndex(of: ".") else { return (name, "") }
    return (String(name[..<dot]), String(name[name.index(after: dot)...]))
  }
}

/// A tensor that an adapter stores in full, to take the place of the base's.
public struct Replacement: Sendable {
  /// The tensor that it replaces.
  public var target: TargetReference
  /// The values.
  public var tensor: StoredTensor
  /// Why the adapter has it, for the report.
  ///
  /// For example `modules_to_save`, `set_weight`, or the kind of parameter that it is, as `bias`.
  public var reason: String

  /// The reason of tensors of PEFT's `modules_to_save`.
  static let savedModule = "modules_to_save"
  /// The reason of such tensors where the adapter keeps what shares them tied (`ensure_weight_tying`).
  static let tiedSavedModule = "modules_to_save, tied"

  /// Creates a replacement; the reason is the kind of parameter unless another is given.
  public init(target: TargetReference, tensor: StoredTensor, reason: String? = nil) {
    self.target = target
    self.tensor = tensor
    self.reason = reason ?? (target.parameter.isEmpty ? "parameter" : target.parameter)
  }

  /// A replacement of a tensor of the base, by its name there.
  public init(of name: TensorName, with tensor: StoredTensor, reason: String) {
    let (module, parameter) = ModuleUpdate.split(name.text)
    self.init(
      target: TargetReference(module: module, parameter: parameter), tensor: tensor,
      reason: reason)
  }
}
