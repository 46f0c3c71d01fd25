#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// The optimal hard threshold for singular values (Gavish & Donoho 2014, doi:10.1109/TIT.2014.2323359).
///
/// Values at or below the threshold cost more by the noise they carry than they give.
public enum NoiseFloor {
  /// The threshold in units of `sigma * sqrt(longer side)`; 4/√3 for a square matrix.
  ///
  /// - Parameter beta: The shorter side over the longer, in (0, 1].
  /// - Returns: λ(β), equation 11 of the paper.
  public static func coefficient(aspect beta: Double) -> Double {
    let root = (beta * beta + 14 * beta + 1).squareRoot()
    return (2 * (beta + 1) + 8 * beta / (beta + 1 + root)).squareRoot()
  }

  /// The threshold in units of the median singular value; about 2.858 for a square matrix.
  ///
  /// - Parameter aspect: The shorter side over the longer, in (0, 1].
  /// - Returns: ω(β) = λ(β) / √μ, where μ is the median of the Marchenko-Pastur distribution.
  public static func medianFactor(aspect: Double) -> Double {
    coefficient(aspect: aspect) / marchenkoPasturMedian(aspect).squareRoot()
  }

  /// The median of the distribution that squared singular values of pure noise follow.
  ///
  /// Integrated from the lower edge in equal steps of the angle that maps the support on a half circle, which
  /// makes the density smooth at both edges; the angle at which half is reached is interpolated.
  private static func marchenkoPasturMedian(_ beta: Double) -> Double {
    let root = beta.squareRoot()
    let steps = 20_000
    let width = Double.pi / Double(steps)
    var mass = 0.0
    for step in 0..<steps {
      let angle = (Double(step) + 0.5) * width
      let value = 1 + beta - 2 * root * cos(angle)
      // 2 √β is half the width of the support, and also what both square roots at the edges give.
      let share = 4 * beta * sin(angle) * sin(angle) / (2 * Double.pi * beta * value) * width
      if mass + share >= 0.5 {
        return 1 + beta - 2 * root * cos((Double(step) + (0.5 - mass) / share) * width)
      }
      mass += share
    }
    return (1 + root) * (1 + root)
  }
}
