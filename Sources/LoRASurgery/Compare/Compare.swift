public import Adapters
import Checkpoints
public import Tensors

/// Compares two checkpoints tensor by tensor, or two adapters by their deltas.
public struct CompareRequest: Sendable, Codable {
  /// The first checkpoint.
  public var first: String
  /// The second checkpoint, the measure of relative errors.
  public var second: String
  /// The relative Frobenius error up to which a tensor counts as equal; 0 asks for equal values.
  public var tolerance: Double
  /// Which tensors take part.
  public var selection: Selection
  /// What the user says about adapters.
  public var adapterOptions = AdapterOptions()

  /// Asks for a comparison.
  public init(
    _ first: String, _ second: String, tolerance: Double = 0, selection: Selection = Selection()
  ) {
    self.first = first
    self.second = second
    self.tolerance = tolerance
    self.selection = selection
  }

  /// Compares, streaming both.
  ///
  /// - Parameter execution: Threads and memory.
  /// - Returns: One entry for each tensor of either checkpoint.
  /// - Throws: `compare.kinds` for an adapter and a model, and what opening and reading throw.
  /// - Complexity: One pass over both.
  public func run(_ execution: Execution = Execution()) throws(SurgeryError) -> CompareReport {
    let areAdapters = [first, second].map { Adapter.isAdapter(at: $0, limits: execution.limits) }
    if areAdapters == [true, true] { return try compareAdapters(execution) }
    let matcher = try selection.matcher()
    let (left, right) = (
      try Checkpoint(opening: first, limits: execution.limits),
      try Checkpoint(opening: second, limits: execution.limits)
    )
    if areAdapters.contains(true), !left.tensors.contains(where: { right[$0.name] != nil }) {
      throw SurgeryError(
        .data, "compare.kinds", "one is an adapter, the other is none, and they share no tensor",
        file: areAdapters[0] ? first : second, expected: "two models or two adapters",
        found: areAdapters[0] ? second : first,
        hint: "verify tells whether an adapter is merged in a model; merge adds it to one")
    }
    let tensors = left.tensors.filter { matcher.selects($0.name) }
    execution.progress.begin("comparing", total: tensors.reduce(0) { $0 + $1.info.byteCount })
    let compared = try Workers(count: execution.jobs).map(
      tensors.count, cost: { tensors[$0].info.byteCount }, interruption: execution.interruption
    ) { (index) throws(SurgeryError) in
      defer { execution.progress.advance(by: tensors[index].info.byteCount) }
      return try compare(tensors[index], with: right[tensors[index].name], execution)
    }
    let extra = right.tensors.filter { left[$0.name] == nil && matcher.selects($0.name) }.map {
      PairSums(TensorComparison($0.name, .extra, shape: $0.info.shape))
    }
    try selection.requireSome(of: compared.count + extra.count)
    return Self.report(compared + extra, warnings: left.warnings + right.warnings)
  }

  private static func report(_ all: [PairSums], warnings: [String]) -> CompareReport {
    let total = all.reduce(0) { $0 + $1.squaredSecond }
    let difference = all.reduce(0) { $0 + $1.squaredDifference }
    return CompareReport(
      modules: all.map(\.comparison),
      relativeError: PairSums.relativeError(difference, of: total),
      equal: all.allSatisfy(\.comparison.passes), warnings: warnings)
  }

  /// Compares the deltas of two adapters, and what they store in full.
  private func compareAdapters(_ execution: Execution) throws(SurgeryError) -> CompareReport {
    let matcher = try selection.matcher()
    let left = try Adapter(
      factorsAt: first, options: adapterOptions, limits: execution.limits)
    let right = try Adapter(
      factorsAt: second, options: adapterOptions, limits: execution.limits)
    let comparing = AdapterComparing(tolerance: tolerance)
    let withComponents = AdapterComparing.haveComponents(left, right)
    let (ours, theirs) = (
      AdapterComparing.entries(of: left, withComponents: withComponents),
      AdapterComparing.entries(of: right, withComponents: withComponents)
    )
    let keys = ours.filter { matcher.selects($0.value.name) }.keys.sorted()
    execution.progress.begin("comparing", total: keys.count)
    var all = try Workers(count: execution.jobs).map(
      keys.count, cost: { ours[keys[$0]]?.module.update.parameterCount ?? 0 },
      interruption: execution.interruption
    ) { (index) throws(SurgeryError) -> PairSums? in
      defer { execution.progress.advance(by: 1) }
      guard let entry = ours[keys[index]] else { return nil }
      guard let other = theirs[keys[index]] else {
        return PairSums(entry.comparison(.missing))
      }
      return try comparing.compare(entry, other)
    }.compactMap { $0 }
    for (key, entry) in theirs.sorted(by: { $0.key < $1.key })
    where ours[key] == nil && matcher.selects(entry.name) {
      all.append(PairSums(entry.comparison(.extra)))
    }
    let stored = (Self.replacements(of: left), Self.replacements(of: right))
    for (name, tensor) in stored.0.sorted(by: { $0.key < $1.key }) where matcher.selects(name) {
      all.append(try compare(tensor, with: stored.1[name], execution))
    }
    for (name, tensor) in stored.1.sorted(by: { $0.key < $1.key })
    where stored.0[name] == nil && matcher.selects(name) {
      all.append(PairSums(TensorComparison(name, .extra, shape: tensor.info.shape)))
    }
    try selection.requireSome(of: all.count)
    return Self.report(
      all, warnings: left.provenance.warnings + right.provenance.warnings)
  }

  private static func replacements(of adapter: Adapter) -> [TensorName: StoredTensor] {
    Dictionary(
      adapter.replacements.map {
        let name = TensorName($0.target.tensorName)
        return (name, $0.tensor.renamed(name))
      }, uniquingKeysWith: { first, _ in first })
  }

  private func compare(
    _ tensor: StoredTensor, with other: StoredTensor?, _ execution: Execution
  ) throws(SurgeryError) -> PairSums {
    guard let other else {
      return PairSums(TensorComparison(tensor.name, .missing, shape: tensor.info.shape))
    }
    guard tensor.info.shape == other.info.shape else {
      return PairSums(TensorComparison(tensor.name, .shape, shape: tensor.info.shape))
    }
    guard tensor.info.dtype.isNumeric, other.info.dtype.isNumeric else {
      let same = try tensor.hasSameBytes(as: other, interruption: execution.interruption)
      return PairSums(
        TensorComparison(tensor.name, same ? .identical : .different, shape: tensor.info.shape))
    }
    var sums = try PairSums(of: tensor, and: other, interruption: execution.interruption)
    let error = sums.comparison.relativeError ?? 0
    if sums.comparison.maximumDifference == 0 {
      sums.comparison.verdict = .identical
    } else {
      sums.comparison.verdict = error <= tolerance ? .close : .different
    }
    return sums
  }
}

/// The sums over two tensors that a comparison is made of.
struct PairSums: Sendable {
  var comparison: TensorComparison
  var squaredDifference = 0.0
  var squaredSecond = 0.0

  init(_ comparison: TensorComparison) { self.comparison = comparison }

  /// Streams both tensors in double precision.
  init(
    of first: StoredTensor, and second: StoredTensor, interruption: Interruption
  ) throws(SurgeryError) {
    comparison = TensorComparison(first.name, .different, shape: first.info.shape)
    if first.info.dtype != second.info.dtype {
      comparison.dtypes = [first.info.dtype.name, second.info.dtype.name]
    }
    let format =
      first.info.dtype == second.info.dtype ? first.info.dtype.floatingPointFormat : nil
    var mostUnits = 0.0
    let total = first.info.shape.elementCount
    let capacity = min(1 << 16, total)
    var readers = (
      try ElementReader<Double>(first, capacity: capacity),
      try ElementReader<Double>(second, capacity: capacity)
    )
    var left = [Double](repeating: 0, count: capacity)
    var right = left
    var (largest, product, squaredFirst) = (0.0, 0.0, 0.0)
    var position = 0
    while position < total {
      try interruption.check()
      let count = min(capacity, total - position)
      var leftSpan = left.mutableSpan
      var leftBlock = leftSpan._mutatingExtracting(0..<count)
      try readers.0.read(from: position, into: &leftBlock)
      var rightSpan = right.mutableSpan
      var rightBlock = rightSpan._mutatingExtracting(0..<count)
      try readers.1.read(from: position, into: &rightBlock)
      for index in 0..<count {
        let (a, b) = (left[index], right[index])
        // Equal infinities, and NaN on both sides, are no difference.
        let difference = a == b || (a.isNaN && b.isNaN) ? 0 : (a - b).magnitude
        if difference > 0, let format {
          mostUnits = max(mostUnits, b.isFinite ? difference / format.unit(at: b) : .infinity)
        }
        largest = difference.isNaN ? .infinity : max(largest, difference)
        squaredDifference += difference * difference
        product += a * b
        squaredFirst += a * a
        squaredSecond += b * b
      }
      position += count
    }
    if squaredDifference.isNaN { squaredDifference = .infinity }
    comparison.maximumDifference = largest
    if format != nil { comparison.maximumUnits = mostUnits }
    comparison.relativeError = Self.relativeError(squaredDifference, of: squaredSecond)
    let norms = squaredFirst.squareRoot() * squaredSecond.squareRoot()
    comparison.cosine = norms > 0 && norms.isFinite ? product / norms : nil
  }

  /// The root of a ratio of squares, of zero that of the difference itself; infinite where either is no measure.
  static func relativeError(_ squaredDifference: Double, of squared: Double) -> Double {
    let ratio = squared > 0 ? squaredDifference / squared : squaredDifference
    return ratio.isNaN ? .infinity : ratio.squareRoot()
  }
}

extension AdapterComparing.Entry {
  /// A comparison with nothing.
  fileprivate func comparison(_ verdict: TensorComparison.Verdict) -> TensorComparison {
    TensorComparison(
      name, verdict, shape: Shape(rows: module.update.rows, columns: module.update.columns))
  }
}
