import Adapters
import Checkpoints
import LinearAlgebra
import Tensors

extension TensorFactoring {
  /// Makes the factors of every matrix of a stack, all of one rank, as the dialects want it.
  ///
  /// - Parameters:
  ///   - pair: The tensor in both models.
  ///   - stack: How it holds its matrices.
  ///   - searched: What was found of each matrix.
  ///   - rank: The rank of all.
  ///   - buffers: Buffers for deltas.
  /// - Returns: The factors, one matrix after the other, with the energies of all together.
  /// - Throws: What reading throws, with file and tensor; `dtype.overflow`.
  /// - Complexity: Reads both tensors once, and again where a matrix was searched for less than the rank; memory for the
  ///   factors of the stack.
  func finish<Scalar: BLASScalar>(
    _ pair: ExtractPlan.Pair, _ stack: ExpertStack, _ searched: SearchedDelta, rank: Int,
    _ buffers: BufferPool<Scalar>
  ) throws(SurgeryError) -> ExtractedTensor {
    let shape = pair.tuned.info.shape
    let squaredNorm = searched.spectrum.totalEnergy
    guard rank > 0 else {
      var report = TensorReport(
        pair.tuned.name, .skipped, shape: shape, reason: "its rule chose rank 0")
      report.setEnergies(squaredNorm: squaredNorm, squaredResidual: squaredNorm)
      return ExtractedTensor(report)
    }
    if !pair.rule.isFixed, request.others == .full,
      rank * pair.elementsPerRank >= shape.elementCount
    {
      return try keepFull(pair, reason: "smaller than factors of rank \(rank)")
    }
    let dtype = request.dtype ?? pair.tuned.info.dtype
    var (left, right): ([UInt8], [UInt8]) = ([], [])
    var squaredResidual = 0.0
    for (index, matrix) in searched.matrices.enumerated() {
      try withDelta(of: pair, matrix: index, buffers) { (delta) throws(SurgeryError) in
        var found = try matrix.subspace(as: Scalar.self)
        if found.rank < rank, found.squaredNorm > 0 {
          found = try leadingDirections(
            of: &delta, rule: RankRule(.fixed(rank), within: rank...rank), limit: rank)
        }
        let rounded = try roundedFactors(of: &delta, found, rank: rank, dtype)
        left += rounded.up.elements.narrowed(to: dtype)
        right += rounded.down.elements.narrowed(to: dtype)
        squaredResidual += rounded.squaredResidual
      }
    }
    var report = TensorReport(
      pair.tuned.name, .lowRank, shape: shape, reason: "\(stack.count, counting: "expert")")
    report.rank = rank
    report.setEnergies(squaredNorm: squaredNorm, squaredResidual: squaredResidual)
    var extracted = ExtractedTensor(
      report,
      content: .stack(
        StoredFactors(
          left: try spool.append(
            left, shape: Shape(rows: stack.count * stack.rows, columns: rank), as: dtype),
          right: try spool.append(
            right, shape: Shape(rows: stack.count * rank, columns: stack.columns), as: dtype)),
        stack))
    if searched.matrices.contains(where: \.fellBack) { extracted.noteFallback() }
    return extracted
  }
}
