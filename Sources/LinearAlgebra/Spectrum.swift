#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// Singular values of a matrix, all or the leading ones, with the energy of all.
///
/// Energy is squared Frobenius norm: the sum of all squared singular values. What a rank keeps and loses follows from
/// the leading values (Eckart & Young 1936, doi:10.1007/BF02288367).
public struct Spectrum: Sendable, Hashable {
  /// The leading singular values, descending, at most `min(rows, columns)`.
  public let values: [Double]
  /// The energy of the whole matrix, that of the values beyond those computed included.
  public let totalEnergy: Double
  /// Rows of the matrix.
  public let rows: Int
  /// Columns of the matrix.
  public let columns: Int
  /// The standard deviation of the noise that is known to lie on every element, such as that of rounding; 0 where none is.
  public let elementNoise: Double

  /// Describes a spectrum; values that ascend or are negative are a programming error.
  ///
  /// - Parameters:
  ///   - values: Singular values, descending.
  ///   - totalEnergy: The squared Frobenius norm; `nil` where `values` are all there are.
  ///   - rows: Rows of the matrix.
  ///   - columns: Columns of the matrix.
  ///   - elementNoise: The standard deviation of known noise on the elements.
  public init(
    values: [Double], totalEnergy: Double? = nil, rows: Int, columns: Int, elementNoise: Double = 0
  ) {
    precondition(values.count <= min(rows, columns), "more values than rows or columns")
    precondition(
      zip(values, values.dropFirst()).allSatisfy { $0 >= $1 } && (values.last ?? 0) >= 0,
      "singular values descend and are not negative")
    let known = values.reduce(0) { $0 + $1 * $1 }
    self.values = values
    self.totalEnergy = max(totalEnergy ?? known, known)
    self.rows = rows
    self.columns = columns
    self.elementNoise = elementNoise
  }

  /// The spectrum of several matrices that all get the same rank: the energies add up rank by rank.
  ///
  /// It counts as incomplete, with as many values as are known of every matrix; of one of less rank than the others the
  /// missing values are to be given as zeros.
  ///
  /// - Parameter spectra: The spectra; those without energy have no part in the number of values.
  public init(together spectra: [Spectrum]) {
    let changed = spectra.filter { $0.totalEnergy > 0 }
    let count = changed.map(\.values.count).min() ?? 0
    self.init(
      values: (0..<count).map { index in
        changed.reduce(0) { $0 + $1.values[index] * $1.values[index] }.squareRoot()
      }, totalEnergy: changed.reduce(0) { $0 + $1.totalEnergy },
      rows: spectra.reduce(0) { $0 + $1.rows }, columns: spectra.reduce(0) { $0 + $1.columns })
  }

  /// Whether all singular values are known.
  public var isComplete: Bool { values.count == min(rows, columns) }

  /// The energy that the best matrix of a rank captures, of the values that are known.
  public func energy(rank: Int) -> Double {
    values.prefix(rank).reduce(0) { $0 + $1 * $1 }
  }

  /// The Frobenius norm of what a rank leaves, relative to the whole; 0 for a matrix of zeros.
  ///
  /// Small residuals of a complete spectrum are summed from the values themselves, not by subtraction.
  public func relativeError(rank: Int) -> Double {
    guard totalEnergy > 0 else { return 0 }
    let left =
      isComplete
      ? values.dropFirst(rank).reversed().reduce(0) { $0 + $1 * $1 }
      : max(0, totalEnergy - energy(rank: rank))
    return (left / totalEnergy).squareRoot()
  }

  /// The squared Frobenius norm over the squared largest singular value; 0 for a matrix of zeros.
  public var stableRank: Double {
    guard let first = values.first, first > 0 else { return 0 }
    return totalEnergy / (first * first)
  }

  /// The exponential of the entropy of the singular values as shares of their sum (Roy & Vetterli 2007).
  ///
  /// `nil` where not all values are known; 0 for a matrix of zeros.
  public var effectiveRank: Double? {
    guard isComplete else { return nil }
    let sum = values.reduce(0, +)
    guard sum > 0 else { return 0 }
    let entropy = values.reduce(0) { total, value in
      value > 0 ? total - value / sum * log(value / sum) : total
    }
    return exp(entropy)
  }
}
