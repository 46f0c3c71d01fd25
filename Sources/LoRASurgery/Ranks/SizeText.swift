/// Sizes as people write them.
public enum SizeText {
  /// The bytes of a size written `512M`, `1.5GB`, `64KiB` or `4096`.
  ///
  /// - Parameter text: A positive number with a unit; `K`, `M`, `G`, `T` are powers of 1000, `KiB` and so on of 1024.
  /// - Returns: The bytes, or `nil` where the text has another form or the size does not fit.
  public static func bytes(_ text: String) -> Int? {
    let digits = text.prefix { $0.isNumber || $0 == "." }
    guard let value = Double(digits), value.isFinite, value > 0 else { return nil }
    let factor: Double
    switch text[digits.endIndex...].uppercased() {
    case "", "B": factor = 1
    case "K", "KB": factor = 1e3
    case "KIB": factor = 0x1p10
    case "M", "MB": factor = 1e6
    case "MIB": factor = 0x1p20
    case "G", "GB": factor = 1e9
    case "GIB": factor = 0x1p30
    case "T", "TB": factor = 1e12
    case "TIB": factor = 0x1p40
    default: return nil
    }
    return value * factor < 0x1p62 ? Int(value * factor) : nil
  }
}
