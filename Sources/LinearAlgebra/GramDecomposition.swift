internal import Tensors

extension RitzProblem {
  /// Finds the wanted directions by decomposing a Gram matrix with LAPACK.
  ///
  /// Costs less than a search where more than about one in twelve of all directions are wanted: the reduction to tridiagonal
  /// form, which is most of it, is the same for any number of them.
  ///
  /// - Parameter gram: The Gram matrix, whose memory is used.
  /// - Returns: The directions; or that the rounding of the Gram matrix hides more than the tolerance, unless its precision is
  ///   wider than that of the elements, beyond which there is none.
  /// - Throws: `la.not-converged` or `la.memory`.
  /// - Complexity: O(*n*³) time; memory for two more matrices of its size.
  func decompose<Scalar: BLASScalar>(
    _ gram: inout Matrix<Scalar>
  ) throws(SurgeryError) -> GramOutcome<Scalar> {
    let faintest = faintest(in: gram)
    let isWider = Double(Scalar.ulpOfOne) < resolution
    var (isLost, missing) = (false, 0.0)
    let pairs = try TridiagonalForm(of: &gram).pairs { values in
      let known = min(values.count, target.rank(for: values, energy: energy) ?? target.largestRank)
      let wanted = min(known, values.prefix { $0 > faintest * values[0] }.count)
      let left = max(0, energy - values.prefix(wanted).reduce(0, +))
      isLost =
        !isWider
        && (wanted < known || isLostInRounding(values.prefix(wanted), left: left, Scalar.self))
      missing = hiddenEnergy(values.prefix(wanted), Scalar.self)
      return isLost ? 0 : wanted
    }
    if isLost { return .lostInRounding }
    return .found(
      FoundDirections(
        vectors: pairs.vectors, values: Array(pairs.values.prefix(pairs.vectors.rows)),
        missing: missing, isDecomposed: true))
  }

  /// Values of a Gram matrix below this fraction of the largest are rounding, of the elements or of its own.
  func faintest<Scalar: BLASScalar>(in gram: Matrix<Scalar>) -> Double {
    max(resolution * resolution, Double(gram.rows) * Double(Scalar.ulpOfOne) / 64)
  }
}
