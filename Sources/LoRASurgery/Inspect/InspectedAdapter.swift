public import Adapters
import Checkpoints
import LinearAlgebra
public import Tensors

/// What an adapter is, what it changes and by how much.
public struct InspectedAdapter: Sendable, Codable {
  /// One change of a tensor.
  public struct Change: Sendable, Codable {
    /// The tensor that it changes: by its name in the base where the adapter has that, else by the adapter's own.
    public var tensor: TensorName
    /// The kind of update: `lora`, `dora`, `loha`, …, or `replaced` for a tensor stored in full.
    public var kind: String
    /// Outputs by inputs, kernel included, or the shape of a tensor stored in full.
    public var shape: Shape
    /// The rank.
    public var rank: Int?
    /// The alpha that the scale was made from.
    public var alpha: Double?
    /// The final scale; absent where the file does not say.
    public var scale: Double?
    /// Elements of its tensors.
    public var parameters: Int
    /// Bytes that its tensors take in a compact file; shared tensors, and those of a module's other changes, count for the
    /// first.
    public var bytes: Int?
    /// The share of the energy of the difference that it was extracted from, where the file says it.
    public var capturedEnergy: Double?
    /// The Frobenius norm of the change, scale included, where statistics were asked for and it does not depend on the base.
    public var norm: Double?
  }

  /// The dialect.
  public var dialect: Dialect
  /// How the dialect was recognised.
  public var reason: String
  /// The one family of updates in it, or `mixed`.
  public var algorithm: String
  /// The number of modules changed.
  public var modules: Int
  /// The distinct ranks, ascending.
  public var ranks: [Int]
  /// The distinct alphas, ascending; absent where the file has none.
  public var alphas: [Double]?
  /// The distinct scales, ascending; absent where the file does not say.
  public var scales: [Double]?
  /// The one dtype of its tensors, or `mixed`.
  public var dtype: String
  /// Elements of all its tensors.
  public var parameters: Int
  /// The base model that it says it was trained on.
  public var baseName: String?
  /// The command that made it, where the file says it.
  public var command: String?
  /// What a compact file says of itself.
  public var compact: CompactFacts?
  /// Parameters of the base that was given.
  public var baseParameters: Int?
  /// The adapter's share of the parameters of base and adapter together.
  public var share: Double?
  /// Tensors of the base that it changes, where a base was given.
  public var matched: Int?
  /// Every change.
  public var changes: [Change]

  init(_ adapter: Adapter) {
    let facts = adapter.facts
    dialect = facts.dialect
    reason = adapter.provenance.reason
    algorithm = facts.algorithm
    modules = facts.modules
    ranks = facts.ranks
    let known = Set(adapter.modules.compactMap(\.alpha)).sorted()
    alphas = known.isEmpty ? nil : known
    scales = facts.scales
    dtype = facts.dtype
    parameters = facts.parameters
    baseName = adapter.provenance.baseName
    command = adapter.provenance.command
    compact = adapter.provenance.compact
    var sizes = compact?.bytesByModule ?? [:]
    changes = adapter.modules.map { module in
      Change(
        tensor: module.tensorName, kind: module.update.algorithm, shape: module.shape,
        rank: module.update.rank, alpha: module.alpha, scale: module.scale,
        parameters: module.update.parameterCount, bytes: sizes.removeValue(forKey: module.name),
        capturedEnergy: module.extraction?.capturedEnergy)
    }
    changes += adapter.replacements.map { replacement in
      Change(
        tensor: TensorName(replacement.target.tensorName), kind: "replaced",
        shape: replacement.tensor.info.shape,
        parameters: replacement.tensor.info.shape.elementCount)
    }
  }

  /// Compares with a base: its size, and whether every change finds its tensor there.
  mutating func compare(
    _ adapter: Adapter, with base: Checkpoint, options: AdapterOptions
  ) -> [String] {
    let count = base.tensors.reduce(0) { $0 + $1.info.shape.elementCount }
    baseParameters = count
    share = Double(parameters) / Double(max(1, count + parameters))
    do throws(SurgeryError) {
      let resolved = try adapter.resolved(against: base, options: options)
      matched = resolved.tensors.count
      return resolved.warnings
    } catch {
      return ["the adapter does not fit \(base.path): \(error)"]
    }
  }

  /// Computes the norms of changes that do not depend on the base.
  mutating func addNorms(of adapter: Adapter, _ execution: Execution) throws(SurgeryError) {
    execution.progress.begin("reading", total: adapter.byteCount)
    let modules = adapter.modules
    let norms = try Workers(count: execution.jobs).map(
      modules.count, cost: { modules[$0].update.parameterCount },
      interruption: execution.interruption
    ) { (index) throws(SurgeryError) in try ChangeNorm(squared: Self.squaredNorm(modules[index])) }
    for (index, norm) in norms.enumerated() { changes[index].norm = norm.squared?.squareRoot() }
  }

  private struct ChangeNorm: Sendable { let squared: Double? }

  private static func squaredNorm(_ module: ModuleUpdate) throws(SurgeryError) -> Double? {
    guard let scale = module.scale, module.update.isAdditive, !(module.update is UnsolvedPair)
    else {
      return nil
    }
    if let factors = try module.update.products(as: Double.self) {
      return try factors.map { $0.scaled(by: scale) }.squaredNorm()
    }
    let loaded = try module.update.loaded(scale: scale, as: Double.self)
    let (rows, columns) = (module.update.rows, module.update.columns)
    let step = max(1, (1 << 18) / max(1, columns))
    var sum = 0.0
    for first in stride(from: 0, to: rows, by: step) {
      let range = first..<min(rows, first + step)
      guard var block = loaded.delta(rows: range, columns: 0..<columns) else { return nil }
      sum += try LinearAlgebra.squaredNorm(of: &block)
    }
    return sum
  }
}
