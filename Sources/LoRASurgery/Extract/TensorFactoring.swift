import Checkpoints
import LinearAlgebra
import Tensors

/// The factors of one tensor's delta, rounded to their storage dtype and waiting in the spool.
struct FactoredDelta: Sendable {
  /// Rows of the storage by rank.
  var left: StoredTensor
  /// Rank by columns of the storage.
  var right: StoredTensor
  var rank: Int
  var squaredNorm: Double
  var squaredResidual: Double
  /// Whether the exact decomposition had to step in for the search.
  var fellBack: Bool
}

/// Turns one pair of tensors into factors.
struct TensorFactoring: Sendable {
  let request: ExtractRequest
  let spool: SpoolFile
  let interruption: Interruption
  /// Bytes of a delta that a worker may keep in memory between readings.
  let keptBytes: Int
  private let floatBuffers = BufferPool<Float>()
  private let doubleBuffers = BufferPool<Double>()

  init(request: ExtractRequest, spool: SpoolFile, execution: Execution) {
    self.request = request
    self.spool = spool
    interruption = execution.interruption
    // The other half is for factors and directions.
    keptBytes = execution.memoryPerWorker / 2
  }

  /// Factors the delta, or returns `nil` where it is zero everywhere.
  ///
  /// One factor is rounded first and the other is fitted to it, so that the fit absorbs the rounding; the energies are those
  /// of the rounded pair.
  func factor(_ pair: ExtractPlan.Pair) throws(SurgeryError) -> FactoredDelta? {
    do throws(SurgeryError) {
      switch request.precision {
      case .float32: return try factor(pair, floatBuffers)
      case .float64: return try factor(pair, doubleBuffers)
      }
    } catch {
      throw error.inFile(pair.tuned.source.file.path).inTensor(pair.tuned.name)
    }
  }

  private func factor<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, _ buffers: BufferPool<Scalar>
  ) throws(SurgeryError) -> FactoredDelta? {
    var matrix = try DeltaMatrix<Scalar>(
      base: pair.base, tuned: pair.tuned, interruption: interruption,
      keeping: keptBytes / MemoryLayout<Scalar>.size, in: buffers.take())
    defer { buffers.put(matrix.takeBuffer()) }
    let found = try subspace(of: &matrix)
    guard found.squaredNorm > 0 else { return nil }
    let dtype = request.dtype ?? pair.tuned.info.dtype
    var rounding = Rounding<Scalar>(to: dtype)
    var down = found.balancedDown(rank: request.rank)
    try down.withElements { (span) throws(SurgeryError) in try rounding.round(&span) }
    let fitted = try fit(&matrix, down: down, squaredNorm: found.squaredNorm) {
      (up) throws(SurgeryError) in try rounding.round(&up)
    }
    if rounding.loss.overflowed > 0, !request.allowOverflow {
      throw SurgeryError(
        .data, "dtype.overflow",
        "\(rounding.loss.overflowed) finite values of the factors do not fit \(dtype)",
        hint: "--dtype bf16 or f32 holds them; --allow-overflow accepts the loss")
    }
    return FactoredDelta(
      left: try store(fitted.up, as: dtype), right: try store(down, as: dtype), rank: down.rows,
      squaredNorm: found.squaredNorm, squaredResidual: fitted.squaredResidual,
      fellBack: found.method == .exactAfterSearch)
  }

  private func subspace<Scalar: BLASScalar>(
    of matrix: inout DeltaMatrix<Scalar>
  ) throws(SurgeryError) -> LeadingSubspace<Scalar> {
    switch request.method {
    case .randomized:
      var options = SubspaceOptions()
      options.accuracy = request.accuracy
      options.seed ^= request.seed
      return try leadingSubspace(of: &matrix, target: .rank(request.rank), options: options)
    case .exact: return try exactSubspace(of: &matrix, target: .rank(request.rank))
    }
  }

  private func store<Scalar: BLASScalar>(
    _ matrix: Matrix<Scalar>, as dtype: DType
  ) throws(SurgeryError) -> StoredTensor {
    let shape = Shape(rows: matrix.rows, columns: matrix.columns)
    guard let info = TensorInfo(name: "factor", dtype: dtype, shape: shape) else {
      throw SurgeryError(.bug, "bug.factor-size", "a factor of \(shape) \(dtype) has no size")
    }
    var bytes = [UInt8](repeating: 0, count: info.byteCount)
    var span = bytes.mutableSpan
    var target = unsafe span.mutableBytes
    _ = Scalar.narrow(matrix.elements.span, to: dtype, into: &target)
    return try unsafe spool.append(bytes.span.bytes, as: info)
  }
}

/// Rounds values in place to what a storage dtype can hold.
struct Rounding<Scalar: WorkingScalar> {
  let dtype: DType
  private(set) var loss = NarrowingLoss()
  private var bytes: [UInt8] = []

  init(to dtype: DType) { self.dtype = dtype }

  mutating func round(_ values: inout MutableSpan<Scalar>) throws(SurgeryError) {
    guard let size = dtype.byteCount(ofElements: values.count) else {
      throw SurgeryError(
        .usage, "dtype.factors", "factors cannot be stored in this dtype", found: dtype.name)
    }
    // Taken out of self for the call: the counts are changed while the buffer is lent.
    var scratch: [UInt8] = []
    swap(&scratch, &bytes)
    defer { swap(&scratch, &bytes) }
    if scratch.count < size { scratch = [UInt8](repeating: 0, count: size) }
    var span = scratch.mutableSpan
    var part = span._mutatingExtracting(0..<size)
    var target = unsafe part.mutableBytes
    loss += Scalar.narrow(values.span, to: dtype, into: &target)
    unsafe Scalar.widen(scratch.span.extracting(0..<size).bytes, from: dtype, into: &values)
  }
}
