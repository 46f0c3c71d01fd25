import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

extension ExtractPlan.Pair {
  /// What kind of layer the factors belong to.
  fileprivate var form: LowRank.Form {
    if case .lowRank(let form) = treatment { form } else { .linear }
  }
}

/// Turns pairs of tensors into what an adapter keeps of them.
struct TensorFactoring: Sendable {
  let request: ExtractRequest
  /// The dialect to be written.
  let dialect: Dialect
  let spool: SpoolFile
  let interruption: Interruption
  /// Bytes of a delta that a worker may keep in memory between readings.
  private let keptBytes: Int
  private let floatBuffers = BufferPool<Float>()
  private let doubleBuffers = BufferPool<Double>()

  init(
    request: ExtractRequest, dialect: Dialect, spool: SpoolFile, execution: Execution
  ) {
    self.request = request
    self.dialect = dialect
    self.spool = spool
    interruption = execution.interruption
    // The other half is for factors and directions.
    keptBytes = execution.memoryPerWorker / 2
  }

  /// Makes what the adapter keeps of a tensor whose rank its own rule chooses.
  func extract(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> ExtractedTensor {
    if let settled = try settled(pair) { return settled }
    if case .experts = pair.treatment {
      // Its rank is the largest that the rule chooses for an expert, which is known when all have been searched.
      guard case .open(let delta) = try searchDelta(of: pair, limit: 0) else {
        return .unchanged(pair)
      }
      return try finish(pair, delta, rank: delta.ownRank ?? 0)
    }
    switch request.precision {
    case .float32: return try extract(pair, floatBuffers)
    case .float64: return try extract(pair, doubleBuffers)
    }
  }

  /// Finds out whether a tensor changed and, if it is to be factored, its leading directions.
  ///
  /// - Parameters:
  ///   - pair: The tensor in both models.
  ///   - limit: The most directions to find.
  /// - Returns: What is settled, or the directions.
  /// - Throws: What reading throws, with file and tensor; `la.not-finite`.
  func search(
    _ pair: ExtractPlan.Pair, limit: Int
  ) throws(SurgeryError) -> SearchedTensor {
    if let settled = try settled(pair) { return .settled(settled) }
    return try searchDelta(of: pair, limit: limit)
  }

  private func searchDelta(
    of pair: ExtractPlan.Pair, limit: Int
  ) throws(SurgeryError) -> SearchedTensor {
    switch request.precision {
    case .float32: return try search(pair, limit: limit, floatBuffers)
    case .float64: return try search(pair, limit: limit, doubleBuffers)
    }
  }

  /// Makes the factors of the chosen rank.
  ///
  /// One factor is rounded first and the other is fitted to it, so that the fit absorbs the rounding; the energies are those
  /// of the rounded pair.
  func finish(
    _ pair: ExtractPlan.Pair, _ searched: SearchedDelta, rank: Int
  ) throws(SurgeryError) -> ExtractedTensor {
    switch request.precision {
    case .float32: return try finish(pair, searched, rank: rank, floatBuffers)
    case .float64: return try finish(pair, searched, rank: rank, doubleBuffers)
    }
  }

  /// What needs no factors: a tensor that is left out or kept in full.
  private func settled(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> ExtractedTensor? {
    switch pair.treatment {
    case .skip(let reason): return ExtractedTensor(try leaveOut(pair, reason: reason))
    case .full: return try keepFull(pair, reason: nil)
    case .lowRank, .experts: return nil
    }
  }

  private func extract<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, _ buffers: BufferPool<Scalar>
  ) throws(SurgeryError) -> ExtractedTensor {
    try withDelta(of: pair, buffers) { (delta) throws(SurgeryError) in
      let found = try leadingDirections(of: &delta, rule: pair.rule, limit: 0)
      guard found.squaredNorm > 0 else { return .unchanged(pair) }
      let spectrum = try spectrum(of: &delta, found, pair.rule)
      return try factors(
        of: &delta, pair, found, rank: pair.rule.rank(for: spectrum, orElse: 0),
        fellBack: found.method == .exactAfterSearch)
    }
  }

  private func search<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, limit: Int, _ buffers: BufferPool<Scalar>
  ) throws(SurgeryError) -> SearchedTensor {
    var matrices: [SearchedMatrix] = []
    var ownRank: Int?
    for index in 0..<pair.matrixCount {
      let matrix = try withDelta(of: pair, matrix: index, buffers) { (delta) throws(SurgeryError) in
        let found = try leadingDirections(of: &delta, rule: pair.rule, limit: limit)
        // What was looked for and not found is zero.
        let known = pair.rule.policy == nil ? min(limit, delta.rows, delta.columns) : 0
        return SearchedMatrix(
          spectrum: try spectrum(of: &delta, found, pair.rule, known: known),
          right: try spool.append(found.right, as: Scalar.self == Double.self ? .f64 : .f32),
          fellBack: found.method == .exactAfterSearch)
      }
      if pair.rule.policy != nil, matrix.spectrum.totalEnergy > 0 {
        ownRank = max(ownRank ?? 0, pair.rule.rank(for: matrix.spectrum, orElse: 0))
      }
      matrices.append(matrix)
    }
    guard matrices.contains(where: { $0.right.info.shape.rows > 0 }) else {
      return .settled(.unchanged(pair))
    }
    return .open(
      SearchedDelta(
        spectrum: matrices.count == 1
          ? matrices[0].spectrum : Spectrum(together: matrices.map(\.spectrum)),
        ownRank: ownRank, matrices: matrices))
  }

  private func finish<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, _ searched: SearchedDelta, rank: Int, _ buffers: BufferPool<Scalar>
  ) throws(SurgeryError) -> ExtractedTensor {
    if case .experts(let stack) = pair.treatment {
      return try finish(pair, stack, searched, rank: rank, buffers)
    }
    return try withDelta(of: pair, buffers) { (delta) throws(SurgeryError) in
      try factors(
        of: &delta, pair, try searched.matrices[0].subspace(as: Scalar.self), rank: rank,
        fellBack: searched.matrices[0].fellBack)
    }
  }

  /// Lends the difference of a pair, or of one matrix of a stack, in a buffer that goes from tensor to tensor.
  func withDelta<Scalar: BLASScalar, Result>(
    of pair: ExtractPlan.Pair, matrix: Int = 0, _ buffers: BufferPool<Scalar>,
    _ body: (inout DeltaMatrix<Scalar>) throws(SurgeryError) -> Result
  ) throws(SurgeryError) -> Result {
    do throws(SurgeryError) {
      var delta = try DeltaMatrix<Scalar>(
        base: pair.matrix(matrix, of: pair.base), tuned: pair.matrix(matrix, of: pair.tuned),
        interruption: interruption, keeping: keptBytes / MemoryLayout<Scalar>.size,
        in: buffers.take())
      defer { buffers.put(delta.takeBuffer()) }
      return try body(&delta)
    } catch {
      throw pair.tuned.explained(error)
    }
  }

  func leadingDirections<Scalar: BLASScalar>(
    of matrix: inout DeltaMatrix<Scalar>, rule: RankRule, limit: Int
  ) throws(SurgeryError) -> LeadingSubspace<Scalar> {
    let full = min(matrix.rows, matrix.columns)
    let target: SubspaceTarget =
      if let policy = rule.policy {
        policy.searchTarget(within: rule.bounds.clamped(to: 0...full)) ?? .rank(full)
      } else {
        .rank(min(limit, full))
      }
    switch request.method {
    case .exact: return try exactSubspace(of: &matrix, target: target)
    case .randomized:
      var options = SubspaceOptions()
      options.accuracy = request.accuracy
      options.seed ^= request.seed
      return try leadingSubspace(of: &matrix, target: target, options: options)
    }
  }

  /// The singular values that were found, made up with zeros to as many as are known, and what the noise rule needs beside.
  private func spectrum<Scalar: BLASScalar>(
    of delta: inout DeltaMatrix<Scalar>, _ found: LeadingSubspace<Scalar>, _ rule: RankRule,
    known: Int = 0
  ) throws(SurgeryError) -> Spectrum {
    Spectrum(
      values: found.singularValues
        + [Double](repeating: 0, count: max(0, known - found.rank)),
      totalEnergy: found.squaredNorm, rows: delta.rows, columns: delta.columns,
      elementNoise: rule.policy == .noiseFloor ? try delta.tunedRoundingNoise() : 0)
  }

  private func factors<Scalar: BLASScalar>(
    of delta: inout DeltaMatrix<Scalar>, _ pair: ExtractPlan.Pair,
    _ found: LeadingSubspace<Scalar>, rank: Int, fellBack: Bool
  ) throws(SurgeryError) -> ExtractedTensor {
    let shape = pair.tuned.info.shape
    guard rank > 0 else {
      var report = TensorReport(
        pair.tuned.name, .skipped, shape: shape, reason: "its rule chose rank 0")
      report.setEnergies(squaredNorm: found.squaredNorm, squaredResidual: found.squaredNorm)
      return ExtractedTensor(report)
    }
    if !pair.rule.isFixed, request.others == .full,
      rank * (shape.rows + shape.columns) >= shape.elementCount
    {
      return try keepFull(pair, reason: "smaller than factors of rank \(rank)")
    }
    let dtype = request.dtype ?? pair.tuned.info.dtype
    let rounded = try roundedFactors(of: &delta, found, rank: rank, dtype)
    var report = TensorReport(pair.tuned.name, .lowRank, shape: shape)
    report.rank = rank
    report.setEnergies(squaredNorm: found.squaredNorm, squaredResidual: rounded.squaredResidual)
    var extracted = ExtractedTensor(
      report,
      content: .factors(
        StoredFactors(
          left: try spool.append(rounded.up, as: dtype),
          right: try spool.append(rounded.down, as: dtype)),
        pair.form))
    if fellBack { extracted.noteFallback() }
    return extracted
  }
}

extension SearchedMatrix {
  /// The directions, read back from the spool.
  func subspace<Scalar: BLASScalar>(
    as _: Scalar.Type
  ) throws(SurgeryError) -> LeadingSubspace<Scalar> {
    let right = try Factor(right).matrix(of: Scalar.self)
    return LeadingSubspace(
      right: right, singularValues: Array(spectrum.values.prefix(right.rows)),
      squaredNorm: spectrum.totalEnergy)
  }
}

extension ExtractedTensor {
  /// Says that LAPACK had to do what the search could not.
  mutating func noteFallback() {
    warning = "the search did not converge, so the exact decomposition stepped in"
  }
}

extension ExtractPlan.Pair {
  /// A tensor of the pair, or a matrix of the stack that it is.
  func matrix(
    _ index: Int, of tensor: StoredTensor
  ) throws(SurgeryError) -> StoredTensor {
    guard case .experts = treatment else { return tensor }
    guard let part = tensor.part(index) else {
      throw SurgeryError(.bug, "bug.expert", "no expert \(index)", found: "\(tensor.info.shape)")
    }
    return part
  }
}
