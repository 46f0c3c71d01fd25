import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

/// What extraction does with each tensor of two models, decided from names, shapes and dtypes alone.
struct ExtractPlan {
  /// What happens to one tensor.
  enum Treatment: Sendable, Hashable {
    /// Its delta is factored.
    case lowRank(LowRank.Form)
    /// The delta of every expert is factored, all to the same rank.
    case experts(ExpertStack)
    /// It is kept in full if it changed.
    case full
    /// It takes no part.
    case skip(reason: String)
  }

  /// A tensor of the tuned model with its counterpart of the base.
  struct Pair: Sendable {
    var base: StoredTensor
    var tuned: StoredTensor
    var treatment: Treatment
    /// How its rank is chosen, where it is factored.
    var rule: RankRule

    /// The shape of each matrix that is factored.
    var matrixShape: Shape {
      guard case .experts(let stack) = treatment else {
        return Shape(rows: tuned.info.shape.rows, columns: tuned.info.shape.columns)
      }
      return Shape(rows: stack.rows, columns: stack.columns)
    }

    /// The number of matrices that are factored.
    var matrixCount: Int { if case .experts(let stack) = treatment { stack.count } else { 1 } }

    /// The largest rank that the rule and the shape allow.
    var largestRank: Int {
      min(rule.bounds.upperBound, matrixShape.rows, matrixShape.columns)
    }

    /// Elements of the factors for every rank.
    var elementsPerRank: Int { matrixCount * (matrixShape.rows + matrixShape.columns) }

    /// Whether the delta is factored.
    var isFactored: Bool {
      switch treatment {
      case .lowRank, .experts: true
      case .full, .skip: false
      }
    }
  }

  /// One entry for each tensor of the tuned model, in its order.
  private(set) var pairs: [Pair] = []
  /// Tensors that only one model has, where that is allowed.
  private(set) var unpaired: [TensorReport] = []
  /// The budget that ranks are bought from, where there is one.
  let budget: RankOptions.Budget?
  /// The configuration of the base.
  let baseConfig: JSONValue?
  private let architecture: Architecture

  /// Bytes of the tuned model's tensors.
  var byteCount: Int { pairs.reduce(0) { $0 + $1.tuned.info.byteCount } }
  /// Elements of the tuned model's tensors.
  var parameterCount: Int { pairs.reduce(0) { $0 + $1.tuned.info.shape.elementCount } }

  init(
    _ request: ExtractRequest, dialect: Dialect, base: Checkpoint, tuned: Checkpoint
  ) throws(SurgeryError) {
    let matcher = try request.selection.matcher()
    let choice = try request.ranks.choice(isRequired: true)
    architecture = Architecture(of: base)
    baseConfig = base.config
    budget = choice.budget
    try Self.requireCommonTensor(base, tuned)
    for tensor in tuned.tensors {
      guard let counterpart = base[tensor.name] else {
        try addUnpaired(tensor, of: tuned, missingIn: base, allowed: request.allowMissing)
        continue
      }
      let stack = architecture.expertStack(tensor.info)
      let rule = choice.rule(
        for: tensor.name,
        kernel: stack == nil ? Array(tensor.info.shape.dimensions.dropFirst(2)) : [])
      pairs.append(
        Pair(
          base: counterpart, tuned: tensor,
          treatment: matcher.selects(tensor.name)
            ? try Self.treatment(of: tensor, base: counterpart, stack, rule, request)
              .expressible(in: dialect)
            : .skip(reason: "not selected"), rule: rule))
    }
    try request.selection.requireSome(of: pairs.count { matcher.selects($0.tuned.name) })
    for tensor in base.tensors where tuned[tensor.name] == nil {
      try addUnpaired(tensor, of: base, missingIn: tuned, allowed: request.allowMissing)
    }
    try checkRank(request)
  }

  /// Whether the models store a tensor `in x out`.
  func isTransposed(_ name: TensorName) -> Bool { architecture.isTransposed(name) ?? false }

  /// Leaves only these pairs, for a part of the work.
  mutating func keep(_ positions: [Int]) { pairs = positions.map { pairs[$0] } }

  /// A rank that no matrix of the model exceeds is a slip, not a wish to keep everything in full.
  private func checkRank(_ request: ExtractRequest) throws(SurgeryError) {
    let sizes = pairs.filter { $0.treatment == .full }.map { pair in
      min(pair.tuned.info.shape.rows, pair.tuned.info.shape.columns)
    }
    if !pairs.contains(where: \.isFactored), let rank = request.ranks.rank,
      let largest = sizes.max(), largest > 1,
      rank >= largest
    {
      throw SurgeryError(
        .usage, "extract.rank", "the rank is not smaller than any matrix of the model",
        file: request.tuned, expected: "at most \(largest - 1)", found: "\(rank)")
    }
  }

  /// Models without a common name are not a model and its fine-tune, whatever is allowed to be missing.
  private static func requireCommonTensor(
    _ base: Checkpoint, _ tuned: Checkpoint
  ) throws(SurgeryError) {
    guard let expected = base.tensors.first, let found = tuned.tensors.first,
      !tuned.tensors.contains(where: { base[$0.name] != nil })
    else { return }
    throw SurgeryError(
      .data, "extract.missing", "the two models have no tensor in common", file: tuned.path,
      expected: "names such as \(expected.name)", found: found.name.text,
      hint: "give a model and its fine-tune; an adapter or another architecture is none")
  }

  private mutating func addUnpaired(
    _ tensor: StoredTensor, of model: Checkpoint, missingIn other: Checkpoint, allowed: Bool
  ) throws(SurgeryError) {
    guard allowed else {
      throw SurgeryError(
        .data, "extract.missing", "only one of the two models has the tensor", file: other.path,
        tensor: tensor.name.text, expected: "a tensor of shape \(tensor.info.shape)",
        found: "none", hint: "--allow-missing leaves such tensors out")
    }
    unpaired.append(
      TensorReport(
        tensor.name, .skipped, shape: tensor.info.shape, reason: "only in \(model.path)"))
  }

  private static func treatment(
    of tuned: StoredTensor, base: StoredTensor, _ stack: ExpertStack?, _ rule: RankRule,
    _ request: ExtractRequest
  ) throws(SurgeryError) -> Treatment {
    let shape = tuned.info.shape
    if shape != base.info.shape {
      // A vocabulary that grew: its new rows have no counterpart to differ from.
      if isVocabulary(tuned.name), shape.columns == base.info.shape.columns,
        shape.rows > base.info.shape.rows
      {
        return .full
      }
      throw SurgeryError(
        .data, "extract.shape", "the tensor has another shape in the tuned model",
        file: tuned.source.file.path, tensor: tuned.name.text, expected: "\(base.info.shape)",
        found: "\(shape)", hint: "--exclude leaves the tensor out")
    }
    guard tuned.info.dtype.isFloatingPoint, base.info.dtype.isFloatingPoint else {
      return request.others == .skip ? .skip(reason: "no floating-point numbers") : .full
    }
    guard shape.rank >= 2, shape.rows > 1, shape.columns > 1, !isBias(tuned.name) else {
      return request.others == .skip ? .skip(reason: "no matrix") : .full
    }
    if let stack, stack.rows > 1, stack.columns > 1 {
      if request.experts == .skip { return .skip(reason: "a stack of experts") }
      if case .fixed(let rank) = rule.policy, rank >= min(stack.rows, stack.columns) {
        return request.others == .skip ? .skip(reason: "no larger than the rank") : .full
      }
      return .experts(stack)
    }
    if case .fixed(let rank) = rule.policy, rank >= min(shape.rows, shape.columns) {
      return request.others == .skip ? .skip(reason: "no larger than the rank") : .full
    }
    if shape.rank > 2 {
      return .lowRank(.convolution(kernel: Array(shape.dimensions.dropFirst(2))))
    }
    guard isEmbedding(tuned.name) else { return .lowRank(.linear) }
    switch request.embeddings {
    case .lowRank: return .lowRank(.embedding)
    case .full: return .full
    case .skip: return .skip(reason: "an embedding")
    }
  }

  /// Whether the rows of a tensor are a vocabulary: an input embedding or an output head.
  private static func isVocabulary(_ name: TensorName) -> Bool {
    isEmbedding(name)
      || ["lm_head.weight", "embed_out.weight", "output.weight"].contains {
        name.text == $0 || name.text.hasSuffix("." + $0)
      }
  }

  /// Whether a tensor holds biases, such as those of all experts of a mixture in two dimensions.
  private static func isBias(_ name: TensorName) -> Bool {
    name.text.split(separator: ".").last.map { $0 == "bias" || $0.hasSuffix("_bias") } ?? false
  }

  /// Whether a tensor is an embedding, by the names that the model families give theirs.
  static func isEmbedding(_ name: TensorName) -> Bool {
    let parts = name.text.split(separator: ".")
    guard parts.last == "weight", let module = parts.dropLast().last else { return false }
    return module.contains("embed") && !module.hasSuffix("proj")
      || ["wte", "wpe", "shared"].contains(module)
      || module == "relative_attention_bias"
  }
}

extension ExtractPlan.Pair {
  /// How many directions to look for at first under a budget: four times what an even share would pay for.
  func initialLimit(_ plan: ExtractPlan, _ budget: RankOptions.Budget) -> Int {
    let elements = plan.pairs.reduce(0) { $1.isFactored ? $0 + $1.elementsPerRank : $0 }
    let affordable =
      switch budget {
      case .bytes(let count): count / max(1, tuned.info.dtype.bytesPerElement ?? 1)
      case .share(let share): Int(share * Double(plan.parameterCount))
      }
    return max(1, min(largestRank, max(8, 4 * affordable / max(1, elements))))
  }
}

extension ExtractPlan.Treatment {
  /// What is left of the treatment in a dialect that may have no place for full tensors.
  fileprivate func expressible(in dialect: Dialect) -> Self {
    guard self == .full, dialect.fullTensorForm == .none else { return self }
    return .skip(reason: "\(dialect.rawValue) holds no full tensors")
  }
}

extension RankRule {
  /// Whether the user named the rank itself.
  var isFixed: Bool { if case .fixed = policy { true } else { false } }
}
