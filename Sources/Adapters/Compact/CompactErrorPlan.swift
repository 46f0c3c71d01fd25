import Checkpoints
import Tensors

/// Which modules are quantised, and how far the delta of each may be off.
///
/// A limit for the sum of all modules is water that stands equally high everywhere: one step for all modules, seen through
/// each one's scale, gives the fewest bits.
struct CompactErrorPlan {
  /// The greatest error of each module's unscaled delta, as a Frobenius norm or relative to its own norm.
  enum Limit: Sendable, Hashable {
    case absolute(Double)
    case relative(Double)

    /// The limit as a norm.
    func error(ofNorm norm: Double) -> Double {
      switch self {
      case .absolute(let error): error
      case .relative(let ratio): ratio * norm
      }
    }
  }

  /// Relative errors below this are finer than what float32 products resolve; such files are written lossless.
  static let smallestError = 1e-4

  /// The relative error of every module, where one is stated.
  let maximumError: Double?
  /// The relative error of all modules together, where one is stated.
  let maximumTotalError: Double?

  /// Reads the stated errors from the options.
  ///
  /// - Throws: `lra.error-range`.
  init(_ options: AdapterWritingOptions) throws(SurgeryError) {
    for error in [options.maximumError, options.maximumTotalError] {
      if let error, !(error > 0 && error < 1) {
        throw SurgeryError(
          .usage, "lra.error-range", "a relative error must lie between 0 and 1",
          found: "\(error)")
      }
    }
    maximumError = options.maximumError ?? options.quality?.maximumError
    maximumTotalError = options.maximumTotalError
  }

  /// Whether anything may be quantised.
  var isLossy: Bool { maximumError != nil || maximumTotalError != nil }

  /// Whether quantising to an error takes fewer bits than storing a dtype exactly.
  ///
  /// For Gaussian factors a relative error ε of the product takes log2(1/ε) + 0.75 bits a number: half a bit since two
  /// factors share the error, a quarter since the quantiser is uniform; a spectrum that falls takes back a quarter and more.
  /// Exact storage compresses exponents to 2.7 bits.
  static func pays(error: Double, dtype: DType) -> Bool {
    guard error >= smallestError else { return false }
    let exact: Double =
      switch dtype {
      case .bf16: 10.7
      case .f16: 13.7
      case .f32: 26.7
      case .f64: 58
      default: 6.5
      }
    return binaryLogarithm(1 / error) + 0.5 < exact
  }

  /// The limits of the modules that may be quantised.
  ///
  /// - Parameter modules: For each module its pair where it has one, and its scale.
  /// - Returns: A limit for each module; `nil` for those that are stored exactly.
  /// - Throws: What reading throws.
  func limits(
    of modules: [(pair: LowRank, scale: Double)?]
  ) throws(SurgeryError) -> [Limit?] {
    guard let maximumTotalError else {
      return modules.map { $0 == nil ? nil : maximumError.map { .relative($0) } }
    }
    var spectra: [(values: [Double], rows: Int, columns: Int)?] = []
    var energy = 0.0
    for module in modules {
      guard let module else {
        spectra.append(nil)
        continue
      }
      let values = try LossyPair(up: module.pair.up, down: module.pair.down).singularValues
        .map { $0 * abs(module.scale) }
      energy += values.reduce(0) { $0 + $1 * $1 }
      spectra.append((values, module.pair.rows, module.pair.columns))
    }
    let errors = Self.share(maximumTotalError * energy.squareRoot(), spectra)
    return zip(modules, zip(spectra, errors)).map { module, found in
      guard let module, let spectrum = found.0, module.scale != 0 else { return nil }
      let own = maximumError.map { $0 * LossyPair.norm(spectrum.values) } ?? .infinity
      return .absolute(min(found.1, own) / abs(module.scale))
    }
  }

  /// Splits the error of a sum so that all modules have the same step.
  private static func share(
    _ error: Double, _ spectra: [(values: [Double], rows: Int, columns: Int)?]
  ) -> [Double] {
    func squares(_ step: Double) -> [Double] {
      spectra.map { spectrum in
        guard let spectrum else { return 0 }
        return LossyPair.forecast(
          spectrum.values, rows: spectrum.rows, columns: spectrum.columns, step: step
        ).squaredError
      }
    }
    var (low, high) = (0.0, error * 4)
    for _ in 0..<80 {
      let middle = (low + high) / 2
      if squares(middle).reduce(0, +) <= error * error { low = middle } else { high = middle }
    }
    return squares(low).map { $0.squareRoot() }
  }
}
