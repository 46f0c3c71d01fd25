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
  /// How the dialect to be written keeps tensors that are not factored.
  let fullTensorForm: FullTensorForm
  let spool: SpoolFile
  let interruption: Interruption
  /// Bytes of a delta that a worker may keep in memory between readings.
  private let keptBytes: Int
  private let floatBuffers = BufferPool<Float>()
  private let doubleBuffers = BufferPool<Double>()

  init(
    request: ExtractRequest, fullTensorForm: FullTensorForm, spool: SpoolFile,
    execution: Execution
  ) {
    self.request = request
    self.fullTensorForm = fullTensorForm
    self.spool = spool
    interruption = execution.interruption
    // The other half is for factors and directions.
    keptBytes = execution.memoryPerWorker / 2
  }

  /// Makes what the adapter keeps of a tensor whose rank its own rule chooses.
  func extract(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> ExtractedTensor {
    if let settled = try settled(pair) { return settled }
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

  /// What needs no factors: a tensor that did not change, is left out or is kept in full.
  private func settled(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> ExtractedTensor? {
    if try pair.tuned.hasSameBytes(as: pair.base, interruption: interruption) {
      return .unchanged(pair)
    }
    switch pair.treatment {
    case .skip(let reason): return ExtractedTensor(try leaveOut(pair, reason: reason))
    case .full: return try keepFull(pair, reason: nil)
    case .lowRank: return nil
    }
  }

  private func extract<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, _ buffers: BufferPool<Scalar>
  ) throws(SurgeryError) -> ExtractedTensor {
    try withDelta(of: pair, buffers) { (delta) throws(SurgeryError) in
      let found = try leadingDirections(of: &delta, rule: pair.rule, limit: 0)
      guard found.squaredNorm > 0 else { return .unchanged(pair) }
      let noise =
        pair.rule.policy == .noiseFloor ? try delta.tunedRoundingNoise() : 0
      let spectrum = Spectrum(
        values: found.singularValues, totalEnergy: found.squaredNorm, rows: delta.rows,
        columns: delta.columns, elementNoise: noise)
      return try factors(
        of: &delta, pair, found, rank: pair.rule.rank(for: spectrum, orElse: 0),
        fellBack: found.method == .exactAfterSearch)
    }
  }

  private func search<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, limit: Int, _ buffers: BufferPool<Scalar>
  ) throws(SurgeryError) -> SearchedTensor {
    try withDelta(of: pair, buffers) { (delta) throws(SurgeryError) in
      let found = try leadingDirections(of: &delta, rule: pair.rule, limit: limit)
      guard found.squaredNorm > 0, found.rank > 0 else { return .settled(.unchanged(pair)) }
      return .open(
        SearchedDelta(
          spectrum: Spectrum(
            values: found.singularValues, totalEnergy: found.squaredNorm, rows: delta.rows,
            columns: delta.columns),
          right: try store(found.right, as: Scalar.self == Double.self ? .f64 : .f32),
          fellBack: found.method == .exactAfterSearch))
    }
  }

  private func finish<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, _ searched: SearchedDelta, rank: Int, _ buffers: BufferPool<Scalar>
  ) throws(SurgeryError) -> ExtractedTensor {
    try withDelta(of: pair, buffers) { (delta) throws(SurgeryError) in
      let found = LeadingSubspace(
        right: try Factor(searched.right).matrix(of: Scalar.self),
        singularValues: searched.spectrum.values, squaredNorm: searched.spectrum.totalEnergy)
      return try factors(of: &delta, pair, found, rank: rank, fellBack: searched.fellBack)
    }
  }

  /// Lends the difference of a pair, in a buffer that goes from tensor to tensor.
  private func withDelta<Scalar: BLASScalar, Result>(
    of pair: ExtractPlan.Pair, _ buffers: BufferPool<Scalar>,
    _ body: (inout DeltaMatrix<Scalar>) throws(SurgeryError) -> Result
  ) throws(SurgeryError) -> Result {
    do throws(SurgeryError) {
      var delta = try DeltaMatrix<Scalar>(
        base: pair.base, tuned: pair.tuned, interruption: interruption,
        keeping: keptBytes / MemoryLayout<Scalar>.size, in: buffers.take())
      defer { buffers.put(delta.takeBuffer()) }
      return try body(&delta)
    } catch {
      throw pair.tuned.explained(error)
    }
  }

  private func leadingDirections<Scalar: BLASScalar>(
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
    let leading = LeadingSubspace(
      right: found.right.prefix(rank), singularValues: Array(found.singularValues.prefix(rank)),
      squaredNorm: found.squaredNorm)
    let dtype = request.dtype ?? pair.tuned.info.dtype
    var rounding = Rounding<Scalar>(to: dtype)
    var down = leading.balancedDown(rank: rank)
    try down.withElements { (span) throws(SurgeryError) in try rounding.round(&span) }
    let fitted = try fit(&delta, down: down, squaredNorm: leading.squaredNorm) {
      (up) throws(SurgeryError) in try rounding.round(&up)
    }
    if rounding.loss.overflowed > 0, !request.allowOverflow {
      throw SurgeryError(
        .data, "dtype.overflow",
        "\(rounding.loss.overflowed) finite values of the factors do not fit \(dtype)",
        hint: "--dtype bf16 or f32 holds them; --allow-overflow accepts the loss")
    }
    var report = TensorReport(pair.tuned.name, .lowRank, shape: shape)
    report.rank = rank
    report.setEnergies(squaredNorm: leading.squaredNorm, squaredResidual: fitted.squaredResidual)
    var extracted = ExtractedTensor(
      report,
      content: .factors(
        StoredFactors(left: try store(fitted.up, as: dtype), right: try store(down, as: dtype)),
        pair.form))
    if fellBack {
      extracted.warning =
        "tensor \"\(pair.tuned.name)\": the search did not converge, so the exact decomposition stepped in"
    }
    return extracted
  }

  private func store<Scalar: BLASScalar>(
    _ matrix: Matrix<Scalar>, as dtype: DType
  ) throws(SurgeryError) -> StoredTensor {
    try store(
      matrix.elements, shape: Shape(rows: matrix.rows, columns: matrix.columns), as: dtype)
  }

  func store<Scalar: BLASScalar>(
    _ values: [Scalar], shape: Shape, as dtype: DType
  ) throws(SurgeryError) -> StoredTensor {
    guard let info = TensorInfo(name: "factor", dtype: dtype, shape: shape) else {
      throw SurgeryError(.bug, "bug.factor-size", "a factor of \(shape) \(dtype) has no size")
    }
    var bytes = [UInt8](repeating: 0, count: info.byteCount)
    var span = bytes.mutableSpan
    var target = unsafe span.mutableBytes
    _ = Scalar.narrow(values.span, to: dtype, into: &target)
    return try unsafe spool.append(bytes.span.bytes, as: info)
  }
}
