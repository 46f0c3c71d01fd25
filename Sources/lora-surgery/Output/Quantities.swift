import Tensors

/// Numbers as people read them.
enum Quantities {
  /// Bytes in powers of 1000, as disks and files are measured: `2.2 GB`.
  static func bytes(_ count: Int) -> String {
    var value = Double(count)
    for unit in ["B", "kB", "MB", "GB", "TB"] {
      if value < 999.5 || unit == "TB" {
        return unit == "B"
          ? "\(count) B" : "\(decimals(value, value < 9.95 ? 2 : value < 99.5 ? 1 : 0)) \(unit)"
      }
      value /= 1000
    }
    return "\(count) B"
  }

  /// A whole number with its thousands apart: `1,234,567`.
  static func grouped(_ number: Int) -> String {
    let digits = Array(String(number.magnitude))
    var out = number < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { out += "," }
      out.append(digit)
    }
    return out
  }

  /// A whole number with its thousands apart and what it counts, given in the singular: `1,234 tensors`.
  static func counted(_ number: Int, _ noun: String) -> String {
    "\(grouped(number)) \(DisplayText.noun(noun, after: number))"
  }

  /// A number with a fixed count of decimals, rounded to nearest.
  static func decimals(_ value: Double, _ places: Int) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let units = Int((value.magnitude * scale).rounded(.toNearestOrEven))
    let whole = units / Int(scale)
    let sign = value < 0 && units > 0 ? "-" : ""
    guard places > 0 else { return "\(sign)\(whole)" }
    let digits = String(units % Int(scale))
    return "\(sign)\(whole)." + String(repeating: "0", count: places - digits.count) + digits
  }

  /// A number with so many significant digits: `0.01234`, `1.235e-7`.
  static func significant(_ value: Double, _ digits: Int = 4) -> String {
    guard value.isFinite, value != 0 else { return "\(value == 0 ? "0" : "\(value)")" }
    var exponent = 0
    var mantissa = value.magnitude
    while mantissa >= 10 {
      mantissa /= 10
      exponent += 1
    }
    while mantissa < 1 {
      mantissa *= 10
      exponent -= 1
    }
    // What rounds up to ten has a digit more before its point.
    if decimals(mantissa, digits - 1).hasPrefix("10") { (mantissa, exponent) = (1, exponent + 1) }
    if (-4..<6).contains(exponent) { return decimals(value, max(0, digits - 1 - exponent)) }
    return "\(value < 0 ? "-" : "")\(decimals(mantissa, digits - 1))e\(exponent)"
  }

  /// A share as a percentage with two decimals.
  static func percent(_ share: Double) -> String { decimals(share * 100, 2) + " %" }

  /// Seconds as `0.52 s`, `1 min 05 s` or `2 h 03 min`.
  static func duration(_ seconds: Double) -> String {
    if seconds < 60 { return decimals(seconds, seconds < 10 ? 2 : 1) + " s" }
    let whole = Int(seconds.rounded())
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return whole < 3600
      ? "\(whole / 60) min \(two(whole % 60)) s" : "\(whole / 3600) h \(two(whole % 3600 / 60)) min"
  }
}
